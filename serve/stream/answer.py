"""Whole answers of an engine, turned into the hosted API's objects and nothing more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve.core.errors import EngineError
from serve.core.usage import Usage
from serve.stream.finish import chat_finish, completion_finish
from serve.stream.toolcalls import shape_calls

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What an answer's objects carry besides what the engine says."""

    id: str
    model: str
    fingerprint: str
    created: int
    choices: int
    include_usage: bool = False
    forced_tool: bool = False
    strict_tools: Mapping[str, JSON] = field(default_factory=dict)
    echo: Mapping[str, Any] = field(default_factory=dict)
    tier: str = "default"


def chat_answer(engine: JSON, shape: Shape) -> tuple[JSON, Usage]:
    """A `chat.completion` object and its usage.

    Raises EngineError where the engine's answer is not a clean, whole one.
    """
    choices = [_chat_choice(choice, shape) for choice in _whole(engine, shape)]
    usage = Usage.of_engine(engine.get("usage") or {})
    answer = {
        "id": shape.id,
        "object": "chat.completion",
        "created": shape.created,
        "model": shape.model,
        "choices": choices,
        "usage": usage.openai(),
        "service_tier": shape.tier,
        "system_fingerprint": shape.fingerprint,
        **shape.echo,
    }
    return answer, usage


def completion_answer(engine: JSON, shape: Shape) -> tuple[JSON, Usage]:
    """A `text_completion` object and its usage; raises as `chat_answer` does."""
    choices = [
        {
            "index": choice["index"],
            "text": choice["text"],
            "logprobs": choice.get("logprobs"),
            "finish_reason": completion_finish(str(choice.get("finish_reason"))),
        }
        for choice in _whole(engine, shape)
    ]
    usage = Usage.of_engine(engine.get("usage") or {})
    answer = {
        "id": shape.id,
        "object": "text_completion",
        "created": shape.created,
        "model": shape.model,
        "choices": choices,
        "usage": usage.openai(),
        "system_fingerprint": shape.fingerprint,
    }
    return answer, usage


def chat_logprobs(logprobs: JSON | None) -> JSON | None:
    """A choice's logprobs with the fields of the hosted API."""
    if not logprobs or logprobs.get("content") is None:
        return None
    return {"content": [_token_logprob(item) for item in logprobs["content"]], "refusal": None}


def _token_logprob(item: JSON) -> JSON:
    shaped = {"token": item["token"], "logprob": item["logprob"], "bytes": item.get("bytes")}
    if "top_logprobs" in item:
        shaped["top_logprobs"] = [_token_logprob(other) for other in item["top_logprobs"]]
    return shaped


def _whole(engine: JSON, shape: Shape) -> list[JSON]:
    choices = engine.get("choices") or []
    if len(choices) != shape.choices:
        raise EngineError(f"the model's process answered {len(choices)} of {shape.choices} choices")
    return list(choices)


def _chat_choice(choice: JSON, shape: Shape) -> JSON:
    message = choice["message"]
    calls = message.get("tool_calls") or []
    finish = chat_finish(
        str(choice.get("finish_reason")), called=bool(calls), forced=shape.forced_tool
    )
    shaped: JSON = {
        "role": "assistant",
        "content": message.get("content"),
        "refusal": message.get("refusal"),
        "annotations": [],
    }
    if calls:
        shaped["content"] = shaped["content"] or None
        shaped["tool_calls"] = shape_calls(calls, finish, shape.strict_tools)
    reasoning = message.get("reasoning")
    if reasoning:
        # Both names in use by clients; the hosted API has neither on chat.
        shaped["reasoning"] = shaped["reasoning_content"] = reasoning
    return {
        "index": choice["index"],
        "message": shaped,
        "logprobs": chat_logprobs(choice.get("logprobs")),
        "finish_reason": finish,
    }
