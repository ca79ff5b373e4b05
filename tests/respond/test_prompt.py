"""Items as the messages of a chat."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.core.errors import InvalidRequest
from serve.respond.prompt import COMPACTED, messages_of, texts_of
from serve.respond.sealed import seal

JSON = dict[str, Any]


def user(text: str, role: str = "user") -> JSON:
    content = [{"type": "input_text", "text": text}]
    return {"id": "msg_u", "type": "message", "role": role, "content": content}


def said(*texts: str) -> JSON:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"id": "msg_a", "type": "message", "role": "assistant", "content": content}


def thought(text: str) -> JSON:
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": "rs_1", "type": "reasoning", "summary": [], "content": content}


def call(call_id: str, arguments: str = "{}") -> JSON:
    return {"id": "fc_1", "type": "function_call", "call_id": call_id, "name": "f",
            "arguments": arguments}  # fmt: skip


def output(call_id: str, text: Any = "done") -> JSON:
    return {"id": "fco_1", "type": "function_call_output", "call_id": call_id, "output": text}


def custom(call_id: str, text: str) -> JSON:
    return {"id": "ctc_1", "type": "custom_tool_call", "call_id": call_id, "name": "g",
            "input": text}  # fmt: skip


def custom_output(call_id: str) -> JSON:
    return {"id": "ctco_1", "type": "custom_tool_call_output", "call_id": call_id, "output": "ok"}


def called(call_id: str, name: str = "f", arguments: str = "{}") -> JSON:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def tool(call_id: str, content: Any = "done") -> JSON:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def refused(*items: JSON) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        messages_of(None, items)
    return caught.value.message, caught.value.param


def test_instructions_come_first() -> None:
    assert messages_of("Be kind.", [user("Dev.", "developer"), user("hi")]) == [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Dev."},
        {"role": "user", "content": "hi"},
    ]


def test_the_items_of_one_turn_are_one_message() -> None:
    items = [user("hi"), thought("hm"), said("wait"), call("a"), call("b", '{"x":1}'),
             output("a"), output("b"), said("so")]  # fmt: skip
    assert messages_of(None, items) == [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "wait",
            "reasoning": "hm",
            "tool_calls": [called("a"), called("b", arguments='{"x":1}')],
        },
        tool("a"),
        tool("b"),
        {"role": "assistant", "content": "so"},
    ]


def test_a_second_text_or_thought_begins_another_message() -> None:
    assert messages_of(None, [said("a"), said("b"), thought("hm"), said("c")]) == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": "c", "reasoning": "hm"},
    ]
    between = [thought("one"), call("a"), thought("two"), call("b"), output("a"), output("b")]
    assert messages_of(None, between)[:2] == [
        {"role": "assistant", "content": None, "reasoning": "one", "tool_calls": [called("a")]},
        {"role": "assistant", "content": None, "reasoning": "two", "tool_calls": [called("b")]},
    ]


def test_reasoning_that_led_to_nothing_is_left_out() -> None:
    assert messages_of(None, [thought("cut"), user("go on")]) == [
        {"role": "user", "content": "go on"}
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content": [{"type": "reasoning_text", "text": "own"}],
          "encrypted_content": seal("sealed")}, "own"),
        ({"content": [], "encrypted_content": seal("sealed")}, "sealed"),
        ({"content": [], "encrypted_content": "gAAAAAB",
          "summary": [{"type": "summary_text", "text": "short"}]}, "short"),
    ],
)  # fmt: skip
def test_reasoning_is_read_from_where_it_is(fields: JSON, expected: str) -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": [], **fields}
    assert messages_of(None, [item, said("so")]) == [
        {"role": "assistant", "content": "so", "reasoning": expected}
    ]


def test_a_custom_call_is_a_call_with_one_text() -> None:
    assert messages_of(None, [custom("a", 'say "é"\n'), custom_output("a")]) == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [called("a", "g", '{"input":"say \\"é\\"\\n"}')],
        },
        tool("a", "ok"),
    ]


def test_several_parts_stay_parts() -> None:
    parts = [{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}]
    expected = [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]
    assert messages_of(None, [call("a"), output("a", parts)])[1] == tool("a", expected)
    assert messages_of(None, [said("x", "y")]) == [{"role": "assistant", "content": expected}]
    assert messages_of(None, [call("a"), output("a", [])])[1] == tool("a", "")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"output": "found", "error": None}, "found"),
        ({"output": None, "error": "gone"}, "Error: gone"),
        ({"output": None, "error": {"code": 1}}, 'Error: {"code":1}'),
        ({"output": None, "error": {"code": 1, "message": "no"}}, "Error: no"),
        (
            {"output": None, "error": {"content": [{"type": "text", "text": "sorry"}]}},
            "Error: sorry",
        ),
        ({"output": None, "error": None}, ""),
    ],
)
def test_a_call_of_this_servers_is_a_call_and_its_answer(fields: JSON, expected: str) -> None:
    item = {"id": "mcp_1", "type": "mcp_call", "server_label": "s", "name": "f",
            "arguments": "{}", **fields}  # fmt: skip
    listed = {"id": "mcpl_1", "type": "mcp_list_tools", "server_label": "s", "tools": []}
    assert messages_of(None, [listed, thought("hm"), item]) == [
        {
            "role": "assistant",
            "content": None,
            "reasoning": "hm",
            "tool_calls": [called("mcp_1", "s__f")],
        },
        tool("mcp_1", expected),
    ]


def test_a_compaction_is_what_was_said_so_far() -> None:
    item = {"id": "cmp_1", "type": "compaction", "encrypted_content": seal("They met.")}
    assert messages_of(None, [item]) == [{"role": "user", "content": COMPACTED + "They met."}]
    message, param = refused({**item, "encrypted_content": "gAAAAAB"})
    assert (message, param) == (
        "The compaction item 'cmp_1' was not made by this server.",
        "input",
    )


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([call("call_1")], "No tool output found for function call call_1."),
        ([call("call_1"), user("x")], "No tool output found for function call call_1."),
        (
            [call("call_1"), output("call_1"), call("call_1")],
            "No tool output found for function call call_1.",
        ),
        (
            [output("call_1"), call("call_1")],
            "No tool call found for function call output with call_id call_1.",
        ),
        ([custom("call_1", "x")], "No tool output found for custom tool call call_1."),
        (
            [call("call_1"), custom_output("call_1")],
            "No tool call found for custom tool call output with call_id call_1.",
        ),
        (
            [{"type": "item_reference", "id": "msg_9"}],
            "Item with id 'msg_9' not found.",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(items: list[JSON], message: str) -> None:
    assert refused(*items) == (message, "input")


def test_the_guard_counts_what_every_template_shows() -> None:
    items = [user("hi"), thought("hm"), said("a", "b"), call("c"), output("c", "x")]
    assert texts_of(messages_of("Be.", items)) == ["Be.", "hi", "a", "b", "f", "x"]


TEXTS = st.text(max_size=4)


def pair(call_id: str, text: str) -> list[JSON]:
    return [call(call_id, text), output(call_id, text)]


def custom_pair(call_id: str, text: str) -> list[JSON]:
    return [custom(call_id, text), custom_output(call_id)]


IDS = st.sampled_from(["a", "b"])
GROUPS = st.one_of(
    TEXTS.map(lambda text: [user(text)]),
    TEXTS.map(lambda text: [said(text)]),
    TEXTS.map(lambda text: [thought(text)]),
    st.builds(pair, IDS, TEXTS),
    st.builds(custom_pair, IDS, TEXTS),
    TEXTS.map(lambda text: [thought(text), said(text), call("p"), call("q"), output("q"),
                            output("p")]),
)  # fmt: skip
TURNS = st.lists(GROUPS, max_size=6).map(lambda groups: [item for one in groups for item in one])


@given(TURNS, TURNS)
@settings(max_examples=200, deadline=None, database=None)
def test_a_conversation_that_goes_on_keeps_its_beginning(
    before: list[JSON], more: list[JSON]
) -> None:
    closed = [*before, user("next")]
    first = messages_of("Be.", closed)
    longer = messages_of("Be.", orjson.loads(orjson.dumps([*closed, *more])))
    assert orjson.dumps(longer[: len(first)]) == orjson.dumps(first)


@given(TURNS)
@settings(max_examples=200, deadline=None, database=None)
def test_every_text_and_call_is_in_the_messages_once(items: list[JSON]) -> None:
    messages = messages_of(None, items)
    calls = [one["id"] for message in messages for one in message.get("tool_calls", ())]
    assert calls == [item["call_id"] for item in items if item["type"].endswith("_call")]
    outputs = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert outputs == [item["call_id"] for item in items if item["type"].endswith("_output")]
    spoken = [m["content"] for m in messages if m["role"] != "tool" and m["content"] is not None]
    assert spoken == [item["content"][0]["text"] for item in items if item["type"] == "message"]


@given(TURNS)
@settings(max_examples=100, deadline=None, database=None)
def test_items_are_left_as_they_were(items: list[JSON]) -> None:
    before = orjson.dumps(items)
    assert messages_of("Be.", items) == messages_of("Be.", items)
    assert orjson.dumps(items) == before
