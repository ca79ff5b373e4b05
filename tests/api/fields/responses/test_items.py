"""Input items: brought to the API's full form, and refused by their path."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from serve.api.fields.responses import read_items
from serve.api.fields.responses.items import read_input_items
from serve.core.errors import InvalidRequest
from serve.respond.sealed import seal

LISTED: TypeAdapter[Any] = TypeAdapter(ResponseItem)
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}


def read(item: dict[str, Any]) -> dict[str, Any]:
    return read_items([item], "input")[0]


def plain(item: dict[str, Any]) -> dict[str, Any]:
    """The item without an id that was made for it."""
    return {key: value for key, value in item.items() if key != "id"}


def refused(item: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        read_items([item], "input")
    assert len(caught.value.message) < 400
    return caught.value.param, caught.value.code


def said(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def test_a_string_is_one_message_of_the_users() -> None:
    (item,) = read_input_items("hi", "input")
    assert plain(item) == {
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "hi"}],
    }
    assert item["id"].startswith("msg_")


@pytest.mark.parametrize("role", ["user", "system", "developer"])
def test_an_easy_message_gets_its_full_form(role: str) -> None:
    item = read({"role": role, "content": "hi"})
    assert (item["type"], item["role"], item["status"]) == ("message", role, "completed")
    assert item["content"] == [{"type": "input_text", "text": "hi"}]


def test_null_is_no_field() -> None:
    item = {"role": "user", "content": "hi", "refusal": None, "tool_calls": None}
    assert plain(read(item)) == plain(read({"role": "user", "content": "hi"}))


def test_only_the_assistant_speaks_in_phases() -> None:
    phased = {"content": "hi", "phase": "final_answer"}
    assert "phase" not in read({**phased, "role": "user"})
    assert read({**phased, "role": "assistant"})["phase"] == "final_answer"


@pytest.mark.parametrize(
    "content",
    [
        "hi",
        [{"type": "output_text", "text": "hi"}],
        [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": None}],
        [{"type": "output_text", "text": "hi", "annotations": None, "parsed": {"a": 1}}],
        [{"type": "output_text", "text": "hi", "logprobs": [{"token": "hi", "logprob": -1}]}],
    ],
)
def test_an_answer_may_be_replayed_with_less(content: Any) -> None:
    assert read({"role": "assistant", "content": content})["content"] == [said("hi")]


def test_what_an_answer_says_of_itself_is_kept() -> None:
    cited = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    item = read(
        {
            "id": "msg_7",
            "type": "message",
            "role": "assistant",
            "status": "incomplete",
            "phase": "commentary",
            "content": [
                {**said("so"), "annotations": [cited]},
                {"type": "refusal", "refusal": "no"},
            ],
        }
    )
    assert item == {
        "id": "msg_7",
        "type": "message",
        "status": "incomplete",
        "role": "assistant",
        "content": [
            {**said("so"), "annotations": [cited]},
            {"type": "refusal", "refusal": "no"},
        ],
        "phase": "commentary",
    }


@pytest.mark.parametrize(
    ("given_item", "prefix", "expected"),
    [
        (CALL, "fc_", {**CALL, "status": "completed"}),
        (
            {**CALL, "caller": {"type": "direct"}, "namespace": None, "parsed_arguments": {}},
            "fc_",
            {**CALL, "status": "completed"},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": "x", "name": None},
            "fco_",
            {"type": "function_call_output", "status": "completed", "call_id": "c", "output": "x"},
        ),
        (
            {"type": "custom_tool_call", "call_id": "c", "name": "g", "input": ""},
            "ctc_",
            {"type": "custom_tool_call", "status": "completed", "call_id": "c", "name": "g",
             "input": ""},
        ),
        (
            {"type": "custom_tool_call_output", "call_id": "c",
             "output": [{"type": "input_text", "text": "x"}]},
            "ctco_",
            {"type": "custom_tool_call_output", "status": "completed", "call_id": "c",
             "output": [{"type": "input_text", "text": "x"}]},
        ),
        (
            {"type": "reasoning", "content": None},
            "rs_",
            {"type": "reasoning", "status": "completed", "summary": [], "content": []},
        ),
        (
            {"type": "mcp_call", "server_label": "s", "name": "f", "arguments": "{}"},
            "mcp_",
            {"type": "mcp_call", "status": "completed", "server_label": "s", "name": "f",
             "arguments": "{}", "output": None, "error": None, "approval_request_id": None},
        ),
        (
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
            "mcpa_",
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True,
             "reason": None},
        ),
        (
            {"type": "mcp_list_tools", "server_label": "s", "tools": []},
            "mcpl_",
            {"type": "mcp_list_tools", "server_label": "s", "tools": [], "error": None},
        ),
        (
            {"type": "compaction", "encrypted_content": seal("x")},
            "cmp_",
            {"type": "compaction", "encrypted_content": seal("x")},
        ),
    ],
)  # fmt: skip
def test_each_kind_has_its_full_form(
    given_item: dict[str, Any], prefix: str, expected: dict[str, Any]
) -> None:
    item = read(given_item)
    assert plain(item) == expected
    assert item["id"].startswith(prefix)
    LISTED.validate_python(item)


@pytest.mark.parametrize("reference", [{"id": "msg_1"}, {"id": "msg_1", "type": None}])
def test_a_reference_may_come_without_a_type(reference: dict[str, Any]) -> None:
    assert read(reference) == {"type": "item_reference", "id": "msg_1"}


def test_reasoning_keeps_what_this_server_sealed_and_no_other() -> None:
    sealed = seal("because")
    assert read({**THOUGHT, "encrypted_content": sealed})["encrypted_content"] == sealed
    assert "encrypted_content" not in read({**THOUGHT, "encrypted_content": "gAAAAAB"})


@pytest.mark.parametrize(
    ("item", "param", "code"),
    [
        ("hi", "input[0]", "invalid_type"),
        ({}, "input[0].type", "missing_required_parameter"),
        ({"id": "msg_1", "a": 1, "b": 2}, "input[0].type", "missing_required_parameter"),
        ({"type": "msg"}, "input[0].type", "invalid_value"),
        ({"type": []}, "input[0].type", "invalid_value"),
        ({"type": "message", "content": "x"}, "input[0].role", "missing_required_parameter"),
        ({"role": "tool", "content": "x"}, "input[0].role", "invalid_value"),
        ({"role": [], "content": "x"}, "input[0].role", "invalid_value"),
        ({"role": "user"}, "input[0].content", "missing_required_parameter"),
        ({"role": "user", "content": []}, "input[0].content", "empty_array"),
        ({"role": "user", "content": 1}, "input[0].content", "invalid_type"),
        ({"role": "user", "content": "x", "name": "n"}, "input[0].name", "unknown_parameter"),
        ({"role": "user", "content": "x", "phase": "p"}, "input[0].phase", "invalid_value"),
        ({"role": "user", "content": "x", "status": "ok"}, "input[0].status", "invalid_value"),
        ({"role": "user", "content": "x", "id": ""}, "input[0].id", "empty_string"),
        ({"role": "user", "content": "x", "id": 1}, "input[0].id", "invalid_type"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]},
            "input[0].content[0].image_url",
            "unsupported_value",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            {"role": "assistant", "content": [{"type": "output_text"}]},
            "input[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            {"role": "assistant", "content": [{**said("x"), "annotations": [1]}]},
            "input[0].content[0].annotations[0]",
            "invalid_type",
        ),
        (
            {"role": "assistant", "content": [{**said("x"), "logprobs": 1}]},
            "input[0].content[0].logprobs",
            "invalid_type",
        ),
        ({**CALL, "call_id": None}, "input[0].call_id", "missing_required_parameter"),
        ({**CALL, "arguments": {}}, "input[0].arguments", "invalid_type"),
        ({**CALL, "namespace": 1}, "input[0].namespace", "invalid_type"),
        ({**CALL, "async": True}, "input[0].async", "unsupported_parameter"),
        (
            {**CALL, "caller": {"type": "program", "caller_id": "p"}},
            "input[0].caller",
            "unsupported_value",
        ),
        (
            {"type": "function_call_output", "call_id": "c"},
            "input[0].output",
            "missing_required_parameter",
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file"}]},
            "input[0].output[0].type",
            "unsupported_value",
        ),
        ({**THOUGHT, "summary": [{"type": "x"}]}, "input[0].summary[0].type", "invalid_value"),
        (
            {"type": "compaction", "encrypted_content": "gAAAAAB"},
            "input[0].encrypted_content",
            "invalid_value",
        ),
        ({"type": "item_reference"}, "input[0].id", "missing_required_parameter"),
        ({"type": "web_search_call", "id": "ws_1"}, "input[0].type", "unsupported_value"),
        (
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1"},
            "input[0].approve",
            "missing_required_parameter",
        ),
        ({"type": "mcp_approval_request"}, "input[0].id", "missing_required_parameter"),
        ({"type": "compaction_trigger"}, "input[0].type", "unsupported_value"),
        ({"type": "local_shell_call_output"}, "input[0].type", "unsupported_value"),
    ],
)  # fmt: skip
def test_an_item_is_refused_by_its_path(item: Any, param: str, code: str) -> None:
    assert refused(item) == (param, code)


def test_an_array_has_a_bound() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_items([CALL] * 21, "items", 20)
    assert (caught.value.param, caught.value.code) == ("items", "array_above_max_length")


MAYBE_ID = st.none() | st.text("abc_1", min_size=1, max_size=8)
STATUS = st.sampled_from([None, "completed", "incomplete", "in_progress"])
TEXTS = st.text(max_size=8)
IN = TEXTS | st.lists(
    st.builds(lambda text: {"type": "input_text", "text": text}, TEXTS), min_size=1, max_size=3
)
OUT = TEXTS | st.lists(
    st.builds(said, TEXTS)
    | st.builds(lambda text: {"type": "output_text", "text": text}, TEXTS)
    | st.builds(lambda text: {"type": "refusal", "refusal": text}, TEXTS),
    max_size=3,
)


def items_of(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), "id": MAYBE_ID, **fields})


NAMES = st.sampled_from(["a", "b"])
THOUGHTS = st.lists(
    st.builds(lambda text: {"type": "reasoning_text", "text": text}, TEXTS), max_size=2
)
ITEMS = st.one_of(
    items_of("message", role=st.sampled_from(["user", "system", "developer"]), content=IN,
             status=STATUS),
    items_of("message", role=st.just("assistant"), content=OUT, status=STATUS,
             phase=st.sampled_from([None, "commentary"])),
    items_of("function_call", call_id=NAMES, name=NAMES, arguments=TEXTS, status=STATUS),
    items_of("function_call_output", call_id=NAMES, output=IN),
    items_of("custom_tool_call", call_id=NAMES, name=NAMES, input=TEXTS),
    items_of("custom_tool_call_output", call_id=NAMES, output=IN),
    items_of("reasoning", content=st.none() | THOUGHTS,
             encrypted_content=st.none() | TEXTS | st.builds(seal, TEXTS)),
    items_of("compaction", encrypted_content=st.builds(seal, TEXTS)),
    items_of("mcp_call", server_label=NAMES, name=NAMES, arguments=TEXTS,
             output=st.none() | TEXTS, error=st.none()),
    items_of("mcp_approval_request", id=NAMES, server_label=NAMES, name=NAMES, arguments=TEXTS),
    items_of("mcp_approval_response", approval_request_id=NAMES, approve=st.booleans(),
             reason=st.none() | TEXTS),
)  # fmt: skip


@given(st.lists(ITEMS, max_size=4))
@settings(max_examples=150, deadline=None, database=None)
def test_reading_what_was_read_changes_nothing(items: list[dict[str, Any]]) -> None:
    once = read_items(items, "input")
    assert read_items(list(once), "input") == once
    for item in once:
        LISTED.validate_python(item)
