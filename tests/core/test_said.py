"""An answer in parts and a whole one say the same."""

from typing import Any

from serve.core.said import Said


def call(name: str | None, arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "function": {"name": name, "arguments": arguments}}


def test_parts_and_the_whole_are_the_same() -> None:
    parts = Said()
    for delta, finish in (
        ({"role": "assistant", "content": ""}, None),
        ({"reasoning": "hm", "content": None}, None),
        ({"content": "he"}, None),
        ({"content": "llo"}, None),
        ({"tool_calls": [call("add", '{"a"')]}, None),
        ({"tool_calls": [call(None, ":1}"), call("sub", "{}", 1)]}, "tool_calls"),
    ):
        parts.take({"index": 0, "delta": delta, "finish_reason": finish})
    message = {
        "role": "assistant",
        "content": "hello",
        "reasoning": "hm",
        "tool_calls": [
            {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
            {"id": "y", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
        ],
    }
    whole = Said.whole([{"index": 0, "message": message, "finish_reason": "tool_calls"}])
    assert parts.plain() == whole.plain()
    (said,) = whole.plain()
    assert said == {
        "index": 0, "content": "hello", "reasoning": "hm", "finish_reason": "tool_calls",
        "tool_calls": [{"name": "add", "arguments": '{"a":1}'}, {"name": "sub", "arguments": "{}"}],
    }  # fmt: skip


def test_choices_are_kept_apart_and_in_order() -> None:
    said = Said()
    for index, text in ((1, "b"), (0, "a"), (1, "c")):
        said.take({"index": index, "text": text, "finish_reason": None})
    assert [(one["index"], one["content"]) for one in said.plain()] == [(0, "a"), (1, "bc")]


def test_nothing_said_is_nothing() -> None:
    assert Said().plain() == []
