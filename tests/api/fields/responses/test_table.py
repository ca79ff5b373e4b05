"""The tables of the Responses API: complete, and each row does what it says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import (
    input_token_count_params,
    response_compact_params,
    response_create_params,
)

from serve.api.fields import (
    COMPACT,
    INPUT_TOKENS,
    RESPONSE,
    check_compact,
    check_input_tokens,
    check_response,
)
from serve.api.fields.fate import Fate, Field, Table
from serve.core.errors import InvalidRequest
from serve.respond.asked import Asked
from serve.settings.site import Limits
from tests.api.fields.vllm_models import vllm_fields

LIMITS = Limits()
TABLES = (RESPONSE, INPUT_TOKENS, COMPACT)
CHECKS: dict[str, Callable[[object, Limits], Asked]] = {
    RESPONSE.endpoint: check_response,
    INPUT_TOKENS.endpoint: check_input_tokens,
    COMPACT.endpoint: check_compact,
}


def said(text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"id": "msg_1", "type": "message", "role": "user", "content": content}


BASE: dict[str, Any] = {"model": "m", "input": [said("hi")]}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
SHOWN = {**TOOL, "description": None, "strict": True}
FUNCTION = {"name": "f", "parameters": {"type": "object"}, "strict": True}
ENGINE_TOOL = {"type": "function", "function": FUNCTION}

# One good value for each field that is not refused, and what else must be sent with it.
GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    "model": ("other", {}),
    "input": ([said("ho")], {}),
    "instructions": ("Be kind.", {}),
    "previous_response_id": ("resp_1", {}),
    "conversation": ({"id": "conv_1"}, {}),
    "tools": ([TOOL], {}),
    "tool_choice": ("required", {"tools": [TOOL]}),
    "parallel_tool_calls": (False, {"tools": [TOOL]}),
    "reasoning": ({"effort": "low", "summary": "auto"}, {}),
    "text": ({"format": {"type": "json_object"}, "verbosity": "medium"}, {}),
    "truncation": ("auto", {}),
    "service_tier": ("auto", {}),
    "prompt_cache_key": ("k", {}),
    "prompt_cache_retention": ("24h", {}),
    "prompt_cache_options": ({"mode": "explicit"}, {}),
    "image": ({"context_compression": "auto"}, {}),
    "stream": (True, {}),
    "stream_options": ({"include_obfuscation": False}, {"stream": True}),
    "store": (False, {}),
    "background": (True, {}),
    "background_options": ({"completion_window": "soonest", "continuation_id": "c"}, {}),
    "include": (["reasoning.encrypted_content"], {}),
    "max_output_tokens": (9, {}),
    "max_tool_calls": (3, {}),
    "top_logprobs": (3, {"include": ["message.output_text.logprobs"]}),
    "metadata": ({"a": "b"}, {}),
    "user": ("u", {}),
    "safety_identifier": ("s", {}),
    "temperature": (0.5, {}),
    "top_p": (0.5, {}),
    "frequency_penalty": (1, {}),
    "presence_penalty": (-1.5, {}),
    "seed": (7, {}),
    "stop": (["a", "b"], {}),
    "logit_bias": ({"50256": -100}, {}),
    "top_k": (5, {}),
    "min_p": (0.1, {}),
    "repetition_penalty": (1.1, {}),
    "min_tokens": (2, {}),
    "stop_token_ids": ([1], {}),
    "allowed_token_ids": ([1, 2], {}),
    "bad_words": (["no"], {}),
    "ignore_eos": (True, {}),
    "include_stop_str_in_output": (True, {}),
    "skip_special_tokens": (False, {}),
    "spaces_between_special_tokens": (False, {}),
    "add_special_tokens": (True, {}),
    "thinking_token_budget": (10, {}),
    "structured_outputs": ({"choice": ["a", "b"]}, {}),
    "include_reasoning": (False, {}),
    "chat_template_kwargs": ({"enable_thinking": False}, {}),
    "client_metadata": ({"turn_id": "t"}, {}),
}

# Honoured, but not in the engine's body under its own name: what each does instead.
EFFECTS: dict[str, Callable[[Asked], bool]] = {
    "service_tier": lambda asked: asked.tier == "auto",
    "model": lambda asked: asked.model == "other",
    "input": lambda asked: asked.items == ({**said("ho"), "status": "completed"},),
    "instructions": lambda asked: asked.instructions == "Be kind.",
    "previous_response_id": lambda asked: asked.previous_response_id == "resp_1",
    "conversation": lambda asked: asked.conversation == "conv_1",
    "tools": lambda asked: asked.engine_body == {"tools": [ENGINE_TOOL], "tool_choice": "auto"},
    "reasoning": lambda asked: asked.engine_body == {"reasoning_effort": "low"},
    "text": lambda asked: asked.engine_body == {"response_format": {"type": "json_object"}},
    "truncation": lambda asked: asked.truncate,
    "stream": lambda asked: asked.stream,
    "stream_options": lambda asked: asked.stream,
    "store": lambda asked: not asked.store,
    "background": lambda asked: asked.background,
    "include": lambda asked: asked.include == {"reasoning.encrypted_content"},
    "max_output_tokens": lambda asked: (
        asked.max_output_tokens == 9 and asked.engine_body == {"max_completion_tokens": 9}
    ),
    "max_tool_calls": lambda asked: asked.max_tool_calls == 3,
    "metadata": lambda asked: asked.engine_body == {},
}

DEFAULTS: dict[str, Any] = {
    "background": False,
    "conversation": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
# What is repeated in another form than it was sent; None: not at all.
REPEATED: dict[str, Any] = {
    "tools": [SHOWN],
    "service_tier": "default",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
}

ROWS = [(table, field) for table in TABLES for field in table.fields.values()]
ROW_IDS = [f"{table.endpoint}:{field.name}" for table, field in ROWS]


def unechoed(table: Table, body: object) -> Asked:
    return replace(CHECKS[table.endpoint](body, LIMITS), echo={})


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.endpoint)
def test_every_property_of_the_openapi_file_has_a_fate(table: Table) -> None:
    names = json.loads(Path(__file__).parents[1].joinpath("openai_properties.json").read_text())
    assert set(names[table.endpoint]) - table.fields.keys() == set()


@pytest.mark.parametrize(
    ("table", "classes"),
    [
        (
            RESPONSE,
            [
                getattr(response_create_params, f"ResponseCreateParams{kind}")
                for kind in ("Base", "NonStreaming", "Streaming")
            ],
        ),
        (INPUT_TOKENS, [input_token_count_params.InputTokenCountParams]),
        (COMPACT, [response_compact_params.ResponseCompactParams]),
    ],
    ids=lambda value: getattr(value, "endpoint", ""),
)
def test_every_parameter_of_the_sdk_has_a_fate(table: Table, classes: list[Any]) -> None:
    names = {name for one in classes for name in one.__annotations__}
    assert len(names) > 8
    assert names - table.fields.keys() == set()


def test_every_field_of_vllm_has_a_fate() -> None:
    names = {n for n in vllm_fields("responses", "ResponsesRequest") if not n.startswith("_")}
    assert names - RESPONSE.fields.keys() == set()


def test_what_goes_to_the_engine_is_known_to_its_chat_endpoint() -> None:
    known = vllm_fields("chat_completion", "ChatCompletionRequest")
    sent: set[str] = set()
    for table, field in ROWS:
        if field.fate is not Fate.REFUSED:
            value, others = GOOD[field.name]
            sent |= unechoed(table, {**BASE, **others, field.name: value}).engine_body.keys()
    assert len(sent) > 20
    assert sent - known == set()


@pytest.mark.parametrize(("table", "field"), ROWS, ids=ROW_IDS)
def test_a_field_meets_its_fate(table: Table, field: Field) -> None:
    if field.fate is Fate.REFUSED:
        with pytest.raises(InvalidRequest) as caught:
            CHECKS[table.endpoint]({**BASE, field.name: "x"}, LIMITS)
        assert (caught.value.param, caught.value.code) == (field.name, "unsupported_parameter")
        assert field.note in caught.value.message
        return
    value, others = GOOD[field.name]
    asked = unechoed(table, {**BASE, **others, field.name: value})
    if field.fate is Fate.ACCEPTED:
        assert asked == unechoed(table, {**BASE, **others})
    elif field.name in asked.engine_body and field.name not in EFFECTS:
        assert asked.engine_body[field.name] == value
        assert unechoed(table, {**BASE, **others}).engine_body.get(field.name) != value
    else:
        assert EFFECTS[field.name](asked)


@pytest.mark.parametrize(("table", "field"), ROWS, ids=ROW_IDS)
def test_null_is_the_same_as_absent(table: Table, field: Field) -> None:
    body = {**BASE, field.name: None}
    if field.name in ("model", "input"):
        with pytest.raises(InvalidRequest) as caught:
            CHECKS[table.endpoint](body, LIMITS)
        assert (caught.value.param, caught.value.code) == (
            field.name,
            "missing_required_parameter",
        )
    else:
        assert CHECKS[table.endpoint](body, LIMITS) == CHECKS[table.endpoint](BASE, LIMITS)


def test_the_echo_has_the_apis_defaults() -> None:
    assert check_response(BASE, LIMITS).echo == DEFAULTS


# What the response object has besides is not the request's to say.
@pytest.mark.parametrize("name", sorted({*DEFAULTS, "user", "prompt_cache_options"}))
def test_the_echo_repeats_the_request(name: str) -> None:
    value, others = GOOD[name]
    asked = check_response({**BASE, **others, name: value}, LIMITS)
    plain = check_response({**BASE, **others}, LIMITS)
    assert asked.echo[name] == REPEATED.get(name, value)
    del asked.echo[name]
    plain.echo.pop(name, None)
    assert asked.echo == plain.echo


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.endpoint)
@pytest.mark.parametrize("body", [None, [], "x", 1, True])
def test_a_body_is_an_object(table: Table, body: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHECKS[table.endpoint](body, LIMITS)
    assert caught.value.code == "invalid_type"


def test_an_unknown_field_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_response({**BASE, "max_output_token": 1}, LIMITS)
    assert caught.value.message == (
        "Unrecognized request argument supplied: max_output_token. "
        "Did you mean 'max_output_tokens'?"
    )


def test_every_row_gives_its_reason() -> None:
    for _, field in ROWS:
        assert field.note or field.fate is Fate.HONOURED, field.name
        assert field.check.says, field.name
