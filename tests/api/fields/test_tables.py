"""The tables are complete, are what the engine understands, and are what the docs say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_message_params
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from serve.api.fields import (
    CHAT,
    COMPLETION,
    COUNT_TOKENS,
    MESSAGES,
    TABLES,
    Checked,
    check_chat,
    check_completion,
    render_markdown,
)
from serve.api.fields.anthropic import check_count, check_message
from serve.api.fields.checks import boolean
from serve.api.fields.fate import Fate, Field, Origin, Table, accepted
from serve.core.errors import InvalidRequest
from serve.settings.site import Limits
from tests.api.fields.vllm_models import vllm_fields

ROOT = Path(__file__).parents[3]
LIMITS = Limits()
BASES: dict[str, dict[str, Any]] = {
    CHAT.endpoint: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    COMPLETION.endpoint: {"model": "m", "prompt": "hi"},
    MESSAGES.endpoint: {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
    COUNT_TOKENS.endpoint: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}
CHECKS: dict[str, Callable[[Any, Limits], Checked]] = {
    CHAT.endpoint: check_chat,
    COMPLETION.endpoint: check_completion,
    MESSAGES.endpoint: check_message,
    COUNT_TOKENS.endpoint: check_count,
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

# One good value for each field that is not refused, and what else must be sent with it.
GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    "model": ("other", {}),
    "messages": ([{"role": "user", "content": "ho"}], {}),
    "prompt": ("ho", {}),
    "stream": (True, {}),
    "stream_options": ({"include_usage": True}, {"stream": True}),
    "temperature": (0.5, {}),
    "top_p": (0.5, {}),
    "frequency_penalty": (1, {}),
    "presence_penalty": (-1.5, {}),
    "seed": (7, {}),
    "stop": (["a", "b"], {}),
    "logit_bias": ({"50256": -100}, {}),
    "n": (2, {}),
    "user": ("u", {}),
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
    "max_completion_tokens": (9, {}),
    "max_tokens": (9, {}),
    "logprobs": (True, {}),
    "top_logprobs": (3, {"logprobs": True}),
    "response_format": ({"type": "json_object"}, {}),
    "tools": ([TOOL], {}),
    "tool_choice": ("required", {"tools": [TOOL]}),
    "parallel_tool_calls": (False, {"tools": [TOOL]}),
    "reasoning_effort": ("low", {}),
    "metadata": ({"a": "b"}, {}),
    "service_tier": ("auto", {}),
    "store": (True, {}),
    "modalities": (["text"], {}),
    "verbosity": ("medium", {}),
    "prediction": ({"type": "content", "content": "x"}, {}),
    "safety_identifier": ("s", {}),
    "prompt_cache_key": ("k", {}),
    "prompt_cache_retention": ("24h", {}),
    "prompt_cache_options": ({"mode": "explicit"}, {}),
    "include_reasoning": (False, {}),
    "chat_template_kwargs": ({"enable_thinking": False}, {}),
    "add_generation_prompt": (False, {}),
    "continue_final_message": (True, {"messages": [{"role": "assistant", "content": "So"}]}),
    "echo": (True, {}),
    "best_of": (1, {}),
}
GOOD_COMPLETION: dict[str, tuple[Any, dict[str, Any]]] = {"logprobs": (2, {})}
OWN_TOOL = {"name": "f", "input_schema": {"type": "object"}}
SCHEMA_FORMAT = {"type": "json_schema", "schema": {"type": "object"}}
GOOD_MESSAGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "system": ([{"type": "text", "text": "Be kind."}], {}),
    "max_tokens": (10, {}),
    "stop_sequences": (["a"], {}),
    "tools": ([OWN_TOOL], {}),
    "tool_choice": (
        {"type": "any", "disable_parallel_tool_use": True},
        {"tools": [OWN_TOOL]},
    ),
    "thinking": ({"type": "enabled", "budget_tokens": 2048}, {}),
    "output_config": ({"effort": "low", "format": SCHEMA_FORMAT}, {}),
    "output_format": (SCHEMA_FORMAT, {}),
    "context_management": ({"edits": [{"type": "clear_thinking_20251015"}]}, {}),
    "cache_control": ({"type": "ephemeral", "ttl": "1h"}, {}),
    "metadata": ({"user_id": "u"}, {}),
    "speed": ("standard", {}),
    "diagnostics": ({"previous_message_id": "msg_1"}, {}),
}
SPECIAL = {
    COMPLETION.endpoint: GOOD_COMPLETION,
    MESSAGES.endpoint: GOOD_MESSAGES,
    COUNT_TOKENS.endpoint: GOOD_MESSAGES,
}

# The tables of the Responses API are walked in responses/test_table.py.
WALKED = [table for table in TABLES if table.endpoint in BASES]
ROWS = [(table, field) for table in WALKED for field in table.fields.values()]
ROW_IDS = [f"{table.endpoint}:{field.name}" for table, field in ROWS]


def good(table: Table, field: Field) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request without the field, and the same with it."""
    special = SPECIAL.get(table.endpoint, {})
    value, others = special.get(field.name) or GOOD[field.name]
    base = {**BASES[table.endpoint], **others}
    return base, {**base, field.name: value}


@pytest.mark.parametrize("table", (CHAT, COMPLETION), ids=lambda table: table.endpoint)
def test_every_property_of_the_openapi_file_has_a_fate(table: Table) -> None:
    names = json.loads(Path(__file__).with_name("openai_properties.json").read_text())
    assert set(names[table.endpoint]) - table.fields.keys() == set()


@pytest.mark.parametrize(
    ("table", "module"),
    [(CHAT, chat_create_params), (COMPLETION, completion_create_params)],
    ids=lambda value: getattr(value, "endpoint", ""),
)
def test_every_parameter_of_the_sdk_has_a_fate(table: Table, module: Any) -> None:
    names = {
        name
        for kind in ("Base", "NonStreaming", "Streaming")
        for name in getattr(module, f"CompletionCreateParams{kind}").__annotations__
    }
    assert len(names) > 15
    assert names - table.fields.keys() == set()


SENT_AS_HEADERS = {"betas", "user_profile_id", "workspace_id"}


@pytest.mark.parametrize(
    ("table", "classes"),
    [
        (
            MESSAGES,
            [
                getattr(module, f"MessageCreateParams{kind}")
                for module in (message_create_params, beta_message_params)
                for kind in ("Base", "NonStreaming", "Streaming")
            ],
        ),
        (
            COUNT_TOKENS,
            [
                message_count_tokens_params.MessageCountTokensParams,
                beta_count_params.MessageCountTokensParams,
            ],
        ),
    ],
    ids=lambda value: getattr(value, "endpoint", ""),
)
def test_every_parameter_of_anthropics_sdk_has_a_fate(table: Table, classes: list[Any]) -> None:
    names = {name for one in classes for name in one.__annotations__} - SENT_AS_HEADERS
    assert len(names) > 10
    assert names - table.fields.keys() == set()


VLLM_MODELS = [
    (CHAT, "chat_completion", "ChatCompletionRequest"),
    (COMPLETION, "completion", "CompletionRequest"),
]
FORWARDED = [*VLLM_MODELS, (MESSAGES, "chat_completion", "ChatCompletionRequest")]


@pytest.mark.parametrize(("table", "module", "model"), FORWARDED)
def test_what_is_forwarded_is_known_to_vllm(table: Table, module: str, model: str) -> None:
    known = vllm_fields(module, model)
    sent = {field.name for field in table.fields.values() if field.forwarded}
    for owner, field in ROWS:
        if owner is table and field.fate is not Fate.REFUSED:
            sent |= CHECKS[table.endpoint](good(table, field)[1], LIMITS).engine_body.keys()
    assert sent - known == set()


@pytest.mark.parametrize(("table", "module", "model"), VLLM_MODELS)
def test_every_field_of_vllm_has_a_fate(table: Table, module: str, model: str) -> None:
    known = {name for name in vllm_fields(module, model) if not name.startswith("_")}
    assert known - table.fields.keys() == set()


# Honoured, but not in the engine's body under its own name: what each does instead.
EFFECTS = {
    "service_tier": lambda checked: checked.tier == "auto",
    "model": lambda checked: checked.model == "other",
    "stream": lambda checked: checked.stream,
    "stream_options": lambda checked: checked.include_usage,
    "max_tokens": lambda checked: checked.max_output_tokens == 9,
    "metadata": lambda checked: checked.echo == {"metadata": {"a": "b"}},
    "store": lambda checked: checked.store and checked.echo == {"metadata": {}},
    "best_of": lambda checked: checked.n == 1,
}
NAMED = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True,
                                                "schema": {"type": "object"}}}  # fmt: skip
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
MESSAGE_EFFECTS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "ho"}]},
    "system": {"messages": [{"role": "system", "content": "Be kind."},
                            {"role": "user", "content": "hi"}]},
    "max_tokens": {"max_completion_tokens": 10},
    "stop_sequences": {"stop": ["a"]},
    "tools": {"tools": [FUNCTION], "tool_choice": "auto"},
    "tool_choice": {"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": False},
    "thinking": {"chat_template_kwargs": {"enable_thinking": True, "thinking": True},
                 "thinking_token_budget": 2048},
    "output_config": {"reasoning_effort": "low", "response_format": NAMED},
    "output_format": {"response_format": NAMED},
    "context_management": {},
}  # fmt: skip


@pytest.mark.parametrize(("table", "field"), ROWS, ids=ROW_IDS)
def test_a_field_meets_its_fate(table: Table, field: Field) -> None:
    check = CHECKS[table.endpoint]
    if field.fate is Fate.REFUSED:
        with pytest.raises(InvalidRequest) as caught:
            check({**BASES[table.endpoint], field.name: "x"}, LIMITS)
        assert (caught.value.param, caught.value.code) == (field.name, "unsupported_parameter")
        assert field.note in caught.value.message
        return
    without, with_field = good(table, field)
    checked = check(with_field, LIMITS)
    if field.fate is Fate.ACCEPTED:
        assert checked == check(without, LIMITS)
    elif field.origin is Origin.ANTHROPIC and field.name in MESSAGE_EFFECTS:
        expected = check(BASES[table.endpoint], LIMITS).engine_body | MESSAGE_EFFECTS[field.name]
        assert checked.engine_body == expected
    elif field.name in checked.engine_body:
        assert checked.engine_body[field.name] == with_field[field.name]
        assert checked.engine_body != check(without, LIMITS).engine_body
    else:
        assert EFFECTS[field.name](checked)


@pytest.mark.parametrize(("table", "field"), ROWS, ids=ROW_IDS)
def test_null_is_the_same_as_absent(table: Table, field: Field) -> None:
    check = CHECKS[table.endpoint]
    body = {**BASES[table.endpoint], field.name: None}
    if field.name in table.required:
        with pytest.raises(InvalidRequest) as caught:
            check(body, LIMITS)
        assert (caught.value.param, caught.value.code) == (
            field.name,
            "missing_required_parameter",
        )
    else:
        assert check(body, LIMITS) == check(BASES[table.endpoint], LIMITS)


@pytest.mark.parametrize(
    "table",
    [table for table in WALKED if "temperature" in table.fields],
    ids=lambda table: table.endpoint,
)
def test_an_unknown_field_is_refused_with_the_nearest_known_one(table: Table) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHECKS[table.endpoint]({**BASES[table.endpoint], "temprature": 1}, LIMITS)
    assert caught.value.message == (
        "Unrecognized request argument supplied: temprature. Did you mean 'temperature'?"
    )
    assert (caught.value.param, caught.value.code) == ("temprature", "unknown_parameter")


@pytest.mark.parametrize("table", WALKED, ids=lambda table: table.endpoint)
@pytest.mark.parametrize("body", [None, [], "x", 1, True])
def test_a_body_is_an_object(table: Table, body: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHECKS[table.endpoint](body, LIMITS)
    assert caught.value.code == "invalid_type"


def test_a_table_has_one_row_a_field() -> None:
    row = accepted("a", boolean(), "")
    with pytest.raises(ValueError, match="two rows for a"):
        Table("/x", (), (row, row))


def test_every_refusal_and_acceptance_gives_its_reason() -> None:
    for _, field in ROWS:
        assert field.note or field.fate is Fate.HONOURED, field.name
        assert field.check.says, field.name


def test_the_docs_are_written_from_the_tables() -> None:
    page = ROOT / "docs" / "api-fields.md"
    assert page.read_text() == render_markdown(), "run python -m serve.api.fields"
