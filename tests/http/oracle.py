"""What the hosted APIs say of their answers, to hold ours against.

Three judges: OpenAI's OpenAPI file, reduced to the facts in `openai_shapes.json`; the types of the
openai SDK; those of the anthropic SDK. The SDKs' types are applied strictly, and a key that they
do not know is a fault unless it is one of ours on purpose.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from pydantic import BaseModel, TypeAdapter

SHAPES = json.loads(Path(__file__).with_name("openai_shapes.json").read_text())["$defs"]

OURS = {
    # Reasoning under both names that clients read; the hosted API has neither on chat.
    "ChatCompletionMessage.reasoning",
    "ChatCompletionMessage.reasoning_content",
    "ChoiceDelta.reasoning",
    "ChoiceDelta.reasoning_content",
    # What else is known of a model.
    "Model.inhouse",
    # In the public schema and in the API's own answers, though not in the SDK's types.
    "Response.store",
    "ResponseCustomToolCall.status",
    "ChatCompletionStoreMessage.name",
    "ResponseFunctionCallArgumentsDoneEvent.name",
    "Logprob.bytes",
    "LogprobTopLogprob.bytes",
}
NULL_AS_ABSENT = {
    "usage", "errors", "expires_at", "status_details", "output_file_id", "error_file_id",
    "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
    "cancelling_at", "cancelled_at", "model", "file",
}  # fmt: skip
"""Optional keys that the hosted API answers with null, in its own examples too, where the schema
has no word for null."""


def judge(name: str, kind: Any, body: str) -> None:
    """Raise where a body is not OpenAI's `name`, or not what the SDK's `kind` says."""
    faults = [fault.message for fault in _shape(name).iter_errors(_present(json.loads(body)))]
    assert faults == [], f"{name}: {faults[:3]}"
    if kind is not None:
        judge_type(kind, body)


def judge_type(kind: Any, body: str) -> None:
    """Raise where a body is not what an SDK's type says."""
    value = _adapter(kind).validate_json(body, strict=True)
    unknown = set(unknown_in(value)) - OURS
    assert unknown == set(), f"{unknown} in {body[:300]}"


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _present(inner)
            for key, inner in value.items()
            if inner is not None or key not in NULL_AS_ABSENT
        }
    return [_present(one) for one in value] if isinstance(value, list) else value


@cache
def _shape(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SHAPES})


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def unknown_in(value: Any) -> Iterator[str]:
    """Keys at any depth that the type of their object does not know."""
    if isinstance(value, BaseModel):
        kind = type(value)
        for key in value.model_extra or ():
            yield f"{kind.__name__}.{key}"
        for key in kind.model_fields:
            yield from unknown_in(getattr(value, key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from unknown_in(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from unknown_in(one)


def events_of(text: str) -> list[str]:
    """The data of a stream's events, each under its own name where it has one."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if not lines:
            continue
        found.append(lines["data"])
        if "event" in lines:
            assert lines["event"] == json.loads(lines["data"])["type"]
    return found
