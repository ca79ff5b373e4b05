"""Bodies of what is kept: conversations, their items, and stored chat completions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import completion_update_params
from openai.types.conversations import (
    conversation_create_params,
    conversation_update_params,
    item_create_params,
)

from serve.api.fields import CHAT_UPDATE, CONVERSATION, CONVERSATION_ITEMS, CONVERSATION_UPDATE
from serve.api.fields.conversations import (
    check_conversation,
    check_conversation_items,
    check_conversation_update,
)
from serve.api.fields.fate import Fate, Table
from serve.api.fields.metadata import check_chat_update
from serve.core.errors import InvalidRequest

ITEM = {"type": "message", "role": "user", "content": "hi", "id": "msg_1"}
SHOWN = {
    "id": "msg_1", "type": "message", "status": "completed", "role": "user",
    "content": [{"type": "input_text", "text": "hi"}],
}  # fmt: skip
Check = Callable[[object], Any]
KEPT: list[tuple[Table, Check, type]] = [
    (CONVERSATION, check_conversation, conversation_create_params.ConversationCreateParams),
    (
        CONVERSATION_UPDATE,
        check_conversation_update,
        conversation_update_params.ConversationUpdateParams,
    ),
    (CONVERSATION_ITEMS, check_conversation_items, item_create_params.ItemCreateParams),
    (CHAT_UPDATE, check_chat_update, completion_update_params.CompletionUpdateParams),
]
BASES: dict[str, dict[str, Any]] = {
    CONVERSATION.endpoint: {},
    CONVERSATION_UPDATE.endpoint: {"metadata": {"a": "b"}},
    CONVERSATION_ITEMS.endpoint: {"items": [ITEM]},
    CHAT_UPDATE.endpoint: {"metadata": {"a": "b"}},
}
every_table = pytest.mark.parametrize(
    ("table", "check", "params"), KEPT, ids=[table.endpoint for table, _, _ in KEPT]
)


@every_table
def test_every_property_has_a_row(table: Table, check: Check, params: type) -> None:
    names = json.loads(Path(__file__).with_name("openai_properties.json").read_text())
    assert set(names[table.endpoint]) == table.fields.keys()
    # `include` is a parameter of the address (`serve.api.query`).
    assert params.__annotations__.keys() - {"include"} == table.fields.keys()
    assert {field.fate for field in table.fields.values()} == {Fate.HONOURED}
    assert check(BASES[table.endpoint]) is not None


@every_table
def test_what_is_unknown_or_missing_is_named(table: Table, check: Check, params: type) -> None:
    base = BASES[table.endpoint]
    with pytest.raises(InvalidRequest) as caught:
        check({**base, "metadta": {}})
    assert (caught.value.param, caught.value.code) == ("metadta", "unknown_parameter")
    for name in table.required:
        assert "Required" in str(params.__annotations__[name])
        with pytest.raises(InvalidRequest) as caught:
            check({key: value for key, value in base.items() if key != name})
        assert (caught.value.param, caught.value.code) == (name, "missing_required_parameter")
    for body in (None, [], "x"):
        with pytest.raises(InvalidRequest) as caught:
            check(body)
        assert caught.value.code == "invalid_type"


def test_what_is_read() -> None:
    assert check_conversation({}) == ((), {})
    assert check_conversation({"items": None, "metadata": None}) == ((), {})
    assert check_conversation({"items": [ITEM], "metadata": {"a": ""}}) == ((SHOWN,), {"a": ""})
    assert check_conversation_items({"items": [SHOWN]}) == (SHOWN,)


@pytest.mark.parametrize("check", [check_conversation_update, check_chat_update])
def test_an_update_to_nothing_must_be_said(check: Check) -> None:
    assert check({"metadata": {"a": "b"}}) == {"a": "b"}
    assert check({"metadata": {}}) == check({"metadata": None}) == {}
    with pytest.raises(InvalidRequest, match="metadata"):
        check({})


WRONG = [
    ({"items": [ITEM] * 21}, "items", "array_above_max_length"),
    ({"items": "hi"}, "items", "invalid_type"),
    ({"items": [ITEM, 5]}, "items[1]", "invalid_type"),
    ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].type", "unsupported_value"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a", "string_above_max_length"),
    ({"metadata": {"x" * 65: ""}}, "metadata." + "x" * 64 + "…", "string_above_max_length"),
    ({"metadata": {"": "x"}}, "metadata.", "empty_string"),
    ({"metadata": {"a": "\0"}}, "metadata.a", "invalid_value"),
    ({"metadata": []}, "metadata", "invalid_type"),
]


@pytest.mark.parametrize(("body", "param", "code"), WRONG)
def test_a_wrong_value_is_named(body: Any, param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_conversation(body)
    assert (caught.value.param, caught.value.code) == (param, code)
