"""`/v1/conversations` with the openai SDK and bare HTTP, and what a restart keeps."""

import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItemList,
)

from tests.conftest import Gateway, start_gateway

PATH = "/v1/conversations"


def sdk_of(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


@pytest.fixture(scope="module")
def sdk(gateway: Gateway) -> openai.OpenAI:
    return sdk_of(gateway)


def user(text: str, **more: Any) -> Any:
    return {"type": "message", "role": "user", "content": text, **more}


def texts(items: Any) -> list[str]:
    return [one.content[0].text for one in items]


def test_the_life_of_a_conversation(gateway: Gateway, sdk: openai.OpenAI) -> None:
    told = gateway.client.post(PATH, json={"metadata": {"topic": "x"}, "items": [user("hi")]})
    made = Conversation.model_validate(told.json(), strict=True)
    assert made.id.startswith("conv_")
    assert (made.object, made.metadata) == ("conversation", {"topic": "x"})
    assert sdk.conversations.retrieve(made.id) == made
    changed = sdk.conversations.update(made.id, metadata={"topic": "y", "more": "z"})
    assert changed == made.model_copy(update={"metadata": {"topic": "y", "more": "z"}})
    assert sdk.conversations.retrieve(made.id) == changed
    assert sdk.conversations.update(made.id, metadata=None).metadata == {}
    told = gateway.client.delete(f"{PATH}/{made.id}")
    gone = ConversationDeletedResource.model_validate(told.json(), strict=True)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")


def test_an_empty_body_makes_an_empty_one(gateway: Gateway, sdk: openai.OpenAI) -> None:
    assert gateway.client.post(PATH).json()["metadata"] == {}
    made = sdk.conversations.create()
    assert made.metadata == {}
    told = gateway.client.get(f"{PATH}/{made.id}/items").json()
    ConversationItemList.model_validate(told, strict=True)
    assert told == {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}


def test_items_of_every_kind_come_back_whole(gateway: Gateway, sdk: openai.OpenAI) -> None:
    made = sdk.conversations.create(items=[user("one", id="msg_one")])
    items: list[Any] = [
        {"role": "developer", "content": [{"type": "input_text", "text": "two"}]},
        {"type": "message", "role": "assistant", "content": "three"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "5"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "so"}]},
    ]
    told = gateway.client.post(f"{PATH}/{made.id}/items", json={"items": items}).json()
    added = ConversationItemList.model_validate(told, strict=True)
    assert [one.type for one in added.data] == [one.get("type", "message") for one in items]
    assert (added.first_id, added.last_id) == (added.data[0].id, added.data[-1].id)
    told = gateway.client.get(f"{PATH}/{made.id}/items?order=asc").json()
    whole = ConversationItemList.model_validate(told, strict=True)
    assert [one.id for one in whole.data] == ["msg_one", *(one.id for one in added.data)]
    assert whole.data[1:] == added.data
    for one in whole.data:
        assert one.id is not None
        assert sdk.conversations.items.retrieve(one.id, conversation_id=made.id) == one
    # What was shown may be sent again, to another.
    copied = gateway.client.post(PATH, json={"items": told["data"]})
    assert copied.status_code == 200
    again = gateway.client.get(f"{PATH}/{copied.json()['id']}/items?order=asc").json()
    assert again["data"] == told["data"]


def test_an_item_deleted_is_gone_alone(gateway: Gateway, sdk: openai.OpenAI) -> None:
    made = sdk.conversations.create(items=[user("a", id="msg_a"), user("b", id="msg_b")])
    assert sdk.conversations.items.delete("msg_a", conversation_id=made.id) == made
    assert texts(sdk.conversations.items.list(made.id)) == ["b"]
    path = f"{PATH}/{made.id}/items/msg_a"
    for answer in (gateway.client.get(path), gateway.client.delete(path)):
        assert answer.status_code == 404
        assert "msg_a" in answer.json()["error"]["message"]


def test_what_is_not_there_is_404(gateway: Gateway, sdk: openai.OpenAI) -> None:
    gone = sdk.conversations.create(items=[user("a", id="msg_a")]).id
    sdk.conversations.delete(gone)
    for name in (gone, "conv_none", "x" * 300, "%00"):
        path = f"{PATH}/{name}"
        for answer in (
            gateway.client.get(path),
            gateway.client.post(path, json={"metadata": {}}),
            gateway.client.delete(path),
            gateway.client.get(f"{path}/items"),
            gateway.client.post(f"{path}/items", json={"items": [user("x")]}),
            gateway.client.get(f"{path}/items/msg_a"),
            gateway.client.delete(f"{path}/items/msg_a"),
        ):
            assert answer.status_code == 404, answer.text
            assert answer.json()["error"]["type"] == "invalid_request_error"


def test_without_a_key_nothing_is_said(gateway: Gateway, sdk: openai.OpenAI) -> None:
    made = sdk.conversations.create()
    for method, path in (("GET", made.id), ("DELETE", made.id), ("GET", f"{made.id}/items")):
        answer = gateway.client.request(method, f"{PATH}/{path}", headers={"Authorization": ""})
        assert answer.status_code == 401


BAD_BODIES: list[tuple[str, Any, str | None]] = [
    ("", {"items": [user("x")] * 21}, "items"),
    ("", {"items": user("x")}, "items"),
    ("", {"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].type"),
    ("", {"items": [user("x"), {"type": "web_search_call"}]}, "items[1].type"),
    ("", {"items": [user("x", id="msg_1"), user("y", id="msg_1")]}, "items"),
    ("", {"metadata": {"a": 1}}, "metadata.a"),
    ("", {"metadata": {"a\0": "b"}}, "metadata.a\\x00"),
    ("", {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ("", {"metadta": {}}, "metadta"),
    ("", [], "body"),
    ("/items", {}, "items"),
    ("/items", {"items": [user("x", id="msg_there")]}, "items"),
    ("/{}", {}, "metadata"),
    ("/{}", {"items": []}, "items"),
]


@pytest.mark.parametrize(("where", "body", "param"), BAD_BODIES)
def test_a_wrong_body_changes_nothing(
    gateway: Gateway, sdk: openai.OpenAI, where: str, body: Any, param: str
) -> None:
    made = sdk.conversations.create(items=[user("a", id="msg_there")], metadata={"k": "v"})
    path = {"": PATH, "/items": f"{PATH}/{made.id}/items"}.get(where, f"{PATH}/{made.id}")
    answer = gateway.client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert sdk.conversations.retrieve(made.id) == made
    assert texts(sdk.conversations.items.list(made.id)) == ["a"]


BAD_QUERIES = [
    ("/items", "limit=0", "limit"),
    ("/items", "limit=1000", "limit"),
    ("/items", "order=", "order"),
    ("/items", "after=msg_none", "after"),
    ("/items", "include=everything", "include"),
    ("/items", "befor=x", "befor"),
    ("", "expand=items", "expand"),
    ("/items/msg_there", "include[]=x", "include"),
]


@pytest.mark.parametrize(("where", "query", "param"), BAD_QUERIES)
def test_a_wrong_query_is_named(
    gateway: Gateway, sdk: openai.OpenAI, where: str, query: str, param: str
) -> None:
    made = sdk.conversations.create(items=[user("a", id="msg_there")])
    answer = gateway.client.get(f"{PATH}/{made.id}{where}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_what_may_be_included_is_taken(sdk: openai.OpenAI) -> None:
    made = sdk.conversations.create(items=[user("a")])
    listed = sdk.conversations.items.list(
        made.id, include=["reasoning.encrypted_content", "message.output_text.logprobs"]
    )
    assert texts(listed) == ["a"]


def test_pages_hold_while_items_are_added(sdk: openai.OpenAI) -> None:
    made = sdk.conversations.create(items=[user(f"b{n}") for n in range(9)])
    stop = threading.Event()
    later: list[str] = []

    def keep_adding() -> None:
        while not stop.is_set() and len(later) < 300:
            pair = [f"l{len(later)}", f"l{len(later) + 1}"]
            sdk.conversations.items.create(made.id, items=[user(one) for one in pair])
            later.extend(pair)

    thread = threading.Thread(target=keep_adding)
    thread.start()
    try:
        backwards: list[str] = []
        for page in sdk.conversations.items.list(made.id, limit=2).iter_pages():
            backwards += texts(page.data)
    finally:
        stop.set()
        thread.join()
    assert backwards[-9:] == [f"b{n}" for n in range(8, -1, -1)]
    assert len(set(backwards)) == len(backwards)
    forwards = texts(sdk.conversations.items.list(made.id, limit=7, order="asc"))
    assert forwards == [f"b{n}" for n in range(9)] + later


def test_a_restart_keeps_conversations_and_completions(tmp_path: Path) -> None:
    words = ("dev", "--ttft-ms", "0", "--tpot-ms", "0", "--var-dir", str(tmp_path))
    gateway = start_gateway(tmp_path, *words)
    try:
        sdk = sdk_of(gateway)
        made = sdk.conversations.create(items=[user("a"), user("b")], metadata={"k": "v"})
        gone = sdk.conversations.create()
        sdk.conversations.delete(gone.id)
        chat = sdk.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "x"}], store=True,
            metadata={"k": "v"},
        )  # fmt: skip
    finally:
        assert gateway.stop() == 0
    gateway = start_gateway(tmp_path, *words)
    try:
        sdk = sdk_of(gateway)
        assert sdk.conversations.retrieve(made.id) == made
        assert texts(sdk.conversations.items.list(made.id, order="asc")) == ["a", "b"]
        with pytest.raises(openai.NotFoundError):
            sdk.conversations.retrieve(gone.id)
        assert sdk.chat.completions.retrieve(chat.id) == chat
        assert [one.id for one in sdk.chat.completions.list(metadata={"k": "v"})] == [chat.id]
        assert [one.content for one in sdk.chat.completions.messages.list(chat.id)] == ["x"]
    finally:
        assert gateway.stop() == 0
