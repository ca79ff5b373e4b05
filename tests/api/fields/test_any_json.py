"""Whatever JSON a client sends, in any field: an answer or InvalidRequest, nothing else."""

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.api.fields import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    RERANK,
    RESPONSE,
    SCORE,
    TOKENIZE,
    Checked,
    check_chat,
    check_completion,
    check_detokenize,
    check_embedding,
    check_rerank,
    check_response,
    check_score,
    check_tokenize,
)
from serve.core.errors import InvalidRequest
from serve.respond.asked import Asked
from serve.respond.prompt import messages_of, texts_of
from serve.settings.site import Limits

WORDS = st.sampled_from(
    ["type", "function", "name", "role", "content", "text", "user", "assistant", "tool", "schema",
     "json_schema", "parameters", "tool_calls", "arguments", "id", "mode", "tools", "json",
     "allowed_tools", "include_usage", "auto", "strict", "regex", "$ref", "#", "refusal", "1"]
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | WORDS
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner),
    max_leaves=8,
)
LIMITS = Limits()
QUICK = settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
CHAT_BASE = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def fault(check: Any, body: Any) -> str | None:
    """What is wrong with how this body is answered; nothing else may be raised."""
    try:
        checked = check(body, LIMITS)
    except InvalidRequest as error:
        if not error.code:
            return "a refusal without a code"
        return "a refusal that says too much" if len(error.message) >= 1000 else None
    if not isinstance(checked, Checked | Asked):
        return f"{checked!r} is no answer"
    try:
        orjson.dumps(checked.engine_body)
    except TypeError as error:
        return f"the engine's body is no JSON: {error}"
    return "a null for the engine" if None in checked.engine_body.values() else None


@given(st.sampled_from(sorted(CHAT.fields)), JSON)
@QUICK
def test_any_value_of_any_chat_field(name: str, value: Any) -> None:
    assert fault(check_chat, {**CHAT_BASE, name: value}) is None


@given(st.sampled_from(sorted(COMPLETION.fields)), JSON)
@QUICK
def test_any_value_of_any_completion_field(name: str, value: Any) -> None:
    assert fault(check_completion, {"model": "m", "prompt": "hi", name: value}) is None


@given(st.dictionaries(st.sampled_from(sorted(CHAT.fields)) | st.text(), JSON, max_size=5))
@QUICK
def test_any_chat_body(body: dict[str, Any]) -> None:
    assert fault(check_chat, {**CHAT_BASE, **body}) is None


@given(st.sampled_from(sorted(RESPONSE.fields)), JSON)
@QUICK
def test_any_value_of_any_response_field(name: str, value: Any) -> None:
    assert fault(check_response, {"model": "m", "input": "hi", name: value}) is None


KINDS = st.sampled_from(
    ["message", "function_call", "function_call_output", "custom_tool_call", "reasoning",
     "item_reference", "compaction", "mcp_call", "mcp_list_tools", "web_search_call"]
)  # fmt: skip
PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["input_text", "output_text", "refusal", "reasoning_text"])},
        optional={"text": st.text(), "refusal": st.text(), "annotations": JSON},
    ),
    max_size=2,
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": KINDS,
        "role": st.sampled_from(["user", "assistant", "system", "developer", "tool"]),
        **dict.fromkeys(("content", "output", "summary"), PARTS | JSON),
        **dict.fromkeys(("id", "call_id", "name", "arguments", "input"), st.text(max_size=3)),
        **dict.fromkeys(("status", "phase", "error", "tools", "encrypted_content"), JSON),
    },
)


@given(st.lists(ITEM, max_size=3))
@QUICK
def test_any_items(items: list[dict[str, Any]]) -> None:
    body = {"model": "m", "input": items}
    assert fault(check_response, body) is None
    try:
        messages = messages_of("Be kind.", check_response(body, LIMITS).items)
    except InvalidRequest as refusal:
        assert refusal.param is not None
    else:
        assert all(type(text) is str for text in texts_of(messages))
        assert orjson.dumps(messages)


@given(st.lists(st.dictionaries(WORDS, JSON, max_size=5), max_size=3))
@QUICK
def test_any_messages(messages: list[dict[str, Any]]) -> None:
    assert fault(check_chat, {"model": "m", "messages": messages}) is None


@pytest.mark.parametrize("field", sorted(CHAT.fields))
def test_nesting_as_deep_as_the_parser_takes(field: str) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"type":', b"}")):
        deep = orjson.loads(opening * 1000 + b"1" + closing * 1000)
        assert fault(check_chat, {**CHAT_BASE, field: deep}) is None


@pytest.mark.parametrize("field", sorted(RESPONSE.fields))
def test_nesting_as_deep_as_the_parser_takes_in_a_response(field: str) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"type":', b"}")):
        deep = orjson.loads(opening * 1000 + b"1" + closing * 1000)
        assert fault(check_response, {"model": "m", "input": "hi", field: deep}) is None


@pytest.mark.parametrize("text", [b'"\\ud800"', b"NaN", b"1e999", b"Infinity"])
def test_the_parser_keeps_out_what_has_no_json(text: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(text)


@given(st.sampled_from(sorted(EMBEDDING.fields)), JSON)
@QUICK
def test_any_value_of_any_embedding_field(name: str, value: Any) -> None:
    assert fault(check_embedding, {"model": "m", "input": "hi", name: value}) is None


@given(st.sampled_from(sorted(RERANK.fields.keys() | SCORE.fields.keys())), JSON)
@QUICK
def test_any_value_of_any_field_of_scores(name: str, value: Any) -> None:
    texts = {"query": "q", "documents": ["a"]}
    assert fault(check_rerank, {"model": "m", **texts, name: value}) is None
    assert fault(check_score, {"model": "m", "text_1": "q", "text_2": "a", name: value}) is None


@given(st.sampled_from(sorted(TOKENIZE.fields)), JSON)
@QUICK
def test_any_value_of_any_field_of_tokens(name: str, value: Any) -> None:
    assert fault(check_tokenize, {"model": "m", "prompt": "hi", name: value}) is None
    messages = [{"role": "user", "content": "hi"}]
    assert fault(check_tokenize, {"model": "m", "messages": messages, name: value}) is None
    assert fault(check_detokenize, {"model": "m", "tokens": value}) is None
