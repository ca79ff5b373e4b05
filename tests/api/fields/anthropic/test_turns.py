"""Anthropic's messages become a chat's."""

from typing import Any

import pytest

from serve.api.fields.anthropic import check_message
from serve.api.fields.anthropic.turns import read_system, read_turns
from serve.core.errors import InvalidRequest
from serve.settings.site import Limits


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}


CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "anyone's"}


def result(**more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"} | more


def chat_of(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    messages = [{"role": role, "content": content} for role, content in turns]
    return read_turns(messages, "messages").messages


def test_turns_of_one_role_become_one() -> None:
    assert chat_of(("user", "a"), ("user", [text("b"), text("c")]), ("assistant", "d")) == [
        {"role": "user", "content": "a\nb\nc"},
        {"role": "assistant", "content": "d"},
    ]


def test_a_tool_round_trip() -> None:
    chat = chat_of(
        ("user", "go"),
        ("assistant", [THOUGHT, {"type": "redacted_thinking", "data": "x"}, text("so"), CALL]),
        ("user", [text("and now?"), result()]),
    )
    function = {"name": "f", "arguments": '{"a":1}'}
    assert chat == [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": "so",
            "reasoning": "hm",
            "tool_calls": [{"id": "toolu_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "ok"},
        {"role": "user", "content": "and now?"},
    ]


@pytest.mark.parametrize(
    ("more", "content"),
    [
        ({"content": [text("a"), text("b")]}, "a\nb"),
        ({"content": None}, ""),
        ({"is_error": True}, "Error: ok"),
        ({"is_error": False}, "ok"),
    ],
)
def test_what_a_tool_said(more: dict[str, Any], content: str) -> None:
    assert chat_of(("user", [result(**more)]))[0]["content"] == content


def test_calls_without_words_have_no_content() -> None:
    assert chat_of(("assistant", [CALL]))[0]["content"] is None


def test_a_system_message_in_the_middle_stays_there() -> None:
    chat = chat_of(("user", "a"), ("system", [text("mind")]), ("user", "b"))
    assert [message["role"] for message in chat] == ["user", "system", "user"]


def test_the_line_for_anthropics_accounts_is_left_out() -> None:
    line = text("x-anthropic-billing-header: cc_version=2; cch=1;")
    assert read_system([line, text("Be kind.")], "system") == "Be kind."
    assert read_system([line], "system") == ""


@pytest.mark.parametrize(
    ("role", "content", "param"),
    [
        ("king", "x", "messages[0].role"),
        ("user", 7, "messages[0].content"),
        ("user", None, "messages[0].content"),
        ("user", [7], "messages[0].content[0]"),
        ("user", [{"type": "text"}], "messages[0].content[0].text"),
        ("user", [{"type": "text", "text": "a", "x": 1}], "messages[0].content[0].x"),
        ("user", [{"type": "document", "source": {}}], "messages[0].content[0].type"),
        ("user", [CALL], "messages[0].content[0].type"),
        ("user", [result(tool_use_id=None)], "messages[0].content[0].tool_use_id"),
        ("user", [result(is_error="yes")], "messages[0].content[0].is_error"),
        ("user", [result(content=[{"type": "image"}])], "messages[0].content[0].content[0].type"),
        ("assistant", [CALL | {"input": "{}"}], "messages[0].content[0].input"),
        ("assistant", [CALL | {"caller": {"type": "x"}}], "messages[0].content[0].caller"),
        ("assistant", [THOUGHT | {"signature": 7}], "messages[0].content[0].signature"),
        ("assistant", [result()], "messages[0].content[0].type"),
        ("user", [text("a") | {"cache_control": {"type": "x"}}],
         "messages[0].content[0].cache_control.type"),
    ],
)  # fmt: skip
def test_a_bad_block_is_named_by_its_path(role: str, content: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat_of((role, content))
    assert caught.value.param == param


def body(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"model": "m", "max_tokens": 5, "messages": messages} | more


def test_the_last_message_of_the_assistants_is_gone_on_with() -> None:
    engine = check_message(body(("user", "a"), ("assistant", "So")), Limits()).engine_body
    assert engine["continue_final_message"] is True
    assert engine["add_generation_prompt"] is False


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "a"), ("assistant", [CALL])],
        [("user", "a"), ("assistant", [THOUGHT])],
        [("user", "a"), ("assistant", "So ")],
        [("system", "a")],
    ],
)
def test_what_cannot_be_answered(turns: list[Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_message(body(*turns), Limits())
    assert caught.value.param == "messages"


def test_a_system_prompt_and_a_leading_system_message_are_one() -> None:
    asked = check_message(body(("system", "b"), ("user", "c"), system="a"), Limits())
    assert asked.engine_body["messages"] == [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": "c"},
    ]


def test_thinking_that_is_disabled_is_neither_asked_for_nor_sent() -> None:
    asked = check_message(body(("user", "a"), thinking={"type": "disabled"}), Limits())
    engine = asked.engine_body
    assert engine["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    assert engine["include_reasoning"] is False


def test_how_thinking_is_shown() -> None:
    asked = {"type": "adaptive", "display": "omitted"}
    assert not check_message(body(("user", "a"), thinking=asked), Limits()).manner.thinking_shown
    assert check_message(body(("user", "a")), Limits()).manner.thinking_shown
