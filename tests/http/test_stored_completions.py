"""Stored chat completions with the openai SDK, over the fake engine."""

import threading
import time
import uuid
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionStoreMessage

from tests.conftest import Gateway

CHAT = "/v1/chat/completions"
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


@pytest.fixture(scope="module")
def sdk(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


@pytest.fixture
def mark() -> dict[str, str]:
    """Metadata of this test's own: all share one server."""
    return {"test": uuid.uuid4().hex}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def listed(sdk: openai.OpenAI, mark: dict[str, str], **more: Any) -> list[str]:
    return [one.id for one in sdk.chat.completions.list(metadata=mark, **more)]


def test_what_is_stored_is_what_was_answered(
    gateway: Gateway, sdk: openai.OpenAI, mark: dict[str, str]
) -> None:
    made = sdk.chat.completions.create(
        model="default", messages=user("fake:tokens=3"), store=True, metadata=mark
    )
    kept = gateway.client.get(f"{CHAT}/{made.id}").json()
    assert ChatCompletion.model_validate(kept, strict=True) == made
    assert made.metadata == mark
    assert sdk.chat.completions.retrieve(made.id) == made
    assert listed(sdk, mark, model="fake") == listed(sdk, mark, model="default") == [made.id]
    assert listed(sdk, mark, model="other") == []


def test_without_store_nothing_is(sdk: openai.OpenAI, mark: dict[str, str]) -> None:
    for store in (None, False):
        made = sdk.chat.completions.create(
            model="fake", messages=user("x"), metadata=mark, store=store
        )
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.retrieve(made.id)
    assert listed(sdk, mark) == []


def test_no_metadata_is_an_empty_one(sdk: openai.OpenAI) -> None:
    made = sdk.chat.completions.create(model="fake", messages=user("x"), store=True)
    assert made.metadata == {}
    assert sdk.chat.completions.retrieve(made.id) == made


ASKED: list[dict[str, Any]] = [
    {"messages": user("fake:tokens=5 fake:think=2")},
    {"messages": user("fake:tokens=4"), "n": 3},
    {"messages": user("fake:tokens=9"), "max_completion_tokens": 2},
    {"messages": user("fake:tokens=3"), "logprobs": True, "top_logprobs": 2},
    {"messages": user("x"), "tools": TOOLS, "tool_choice": "required"},
]


@pytest.mark.parametrize("asked", ASKED, ids=["thinking", "n", "cut", "logprobs", "tools"])
def test_streamed_and_unstreamed_keep_the_same(
    sdk: openai.OpenAI, mark: dict[str, str], asked: dict[str, Any]
) -> None:
    plain = sdk.chat.completions.create(model="fake", store=True, metadata=mark, **asked)
    chunks = list(
        sdk.chat.completions.create(model="fake", store=True, metadata=mark, stream=True, **asked)
    )
    kept = sdk.chat.completions.retrieve(chunks[0].id)
    told = kept.to_dict()
    ChatCompletion.model_validate(told, strict=True)

    def comparable(one: ChatCompletion) -> dict[str, Any]:
        value = one.to_dict()
        for choice in value["choices"]:  # type: ignore[attr-defined]  # a list of dicts
            for call in choice["message"].get("tool_calls") or ():
                call["id"] = "call"
            for token in (choice["logprobs"] or {"content": ()})["content"]:
                # The fake engine's pieces of a stream have the spaces, those of a whole do not.
                token.update(token=token["token"].strip(), bytes=None)
        return value | {"id": "", "created": 0}

    assert comparable(kept) == comparable(plain)
    assert listed(sdk, mark) == [plain.id, kept.id]
    assert listed(sdk, mark, order="desc") == [kept.id, plain.id]


def test_it_can_be_read_as_soon_as_its_end_is_told(
    sdk: openai.OpenAI, gateway: Gateway, mark: dict[str, str]
) -> None:
    body = {"model": "fake", "messages": user("fake:tokens=2"), "store": True, "metadata": mark}
    with gateway.client.stream("POST", CHAT, json=body | {"stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        assert len(listed(sdk, mark)) == 1


def test_an_empty_answer_is_whole_too(
    sdk: openai.OpenAI, gateway: Gateway, mark: dict[str, str]
) -> None:
    body = {"model": "fake", "messages": user("fake:tokens=0 fake:say="), "stop": ["w0"]}
    answer = gateway.client.post(
        CHAT, json=body | {"stream": True, "store": True, "metadata": mark}
    )
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"role":"assistant"' in answer.text
    assert len(listed(sdk, mark)) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["error@2", "abort@2", "drop@2", "status=500"])
def test_a_failed_generation_is_not_stored(
    gateway: Gateway, sdk: openai.OpenAI, mark: dict[str, str], fault: str, stream: bool
) -> None:
    body = {
        "model": "fake", "messages": user(f"fake:{fault}"), "store": True, "metadata": mark,
        "stream": stream,
    }  # fmt: skip
    answer = gateway.client.post(CHAT, json=body)
    assert "error" in answer.text
    assert listed(sdk, mark) == []


def test_a_cancelled_generation_is_not_stored(
    gateway: Gateway, sdk: openai.OpenAI, mark: dict[str, str]
) -> None:
    body = {
        "model": "fake", "messages": user("fake:tokens=40 fake:pace=0.01"), "store": True,
        "metadata": mark, "stream": True,
    }  # fmt: skip
    with gateway.client.stream("POST", CHAT, json=body) as answer:
        assert next(answer.iter_raw())
    time.sleep(0.6)
    assert listed(sdk, mark) == []


def test_messages_are_shown_as_they_came(gateway: Gateway, sdk: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "go on"},
    ]
    made = sdk.chat.completions.create(model="fake", messages=messages, store=True)
    whole = list(sdk.chat.completions.messages.list(made.id, limit=4))
    assert [one.id for one in whole] == [f"{made.id}-{n}" for n in range(6)]
    assert [one.role for one in whole] == [one["role"] for one in messages]
    assert [one.content for one in whole] == ["Be brief.", None, None, "4", None, "go on"]
    assert whole[1].content_parts is not None
    assert [part.to_dict() for part in whole[1].content_parts] == messages[1]["content"]
    assert whole[4].refusal == "No."
    told = gateway.client.get(f"{CHAT}/{made.id}/messages?order=desc&limit=2").json()
    assert [one["id"] for one in told["data"]] == [f"{made.id}-5", f"{made.id}-4"]
    assert (told["first_id"], told["last_id"]) == (f"{made.id}-5", f"{made.id}-4")
    assert told["has_more"] is True
    for one in gateway.client.get(f"{CHAT}/{made.id}/messages").json()["data"]:
        # The schema knows the assistant's role only; the reference's own example is a user's.
        ChatCompletionStoreMessage.model_validate(one | {"role": "assistant"}, strict=True)


def test_an_update_and_a_deletion(gateway: Gateway, sdk: openai.OpenAI) -> None:
    made = sdk.chat.completions.create(
        model="fake", messages=user("x"), store=True, metadata={"a": "1"}
    )
    changed = sdk.chat.completions.update(made.id, metadata={"b": uuid.uuid4().hex})
    assert changed == made.model_copy(update={"metadata": changed.metadata})
    assert listed(sdk, dict(changed.metadata or {})) == [made.id]
    assert sdk.chat.completions.update(made.id, metadata=None).metadata == {}
    gone = sdk.chat.completions.delete(made.id)
    assert gone.to_dict() == {
        "id": made.id, "object": "chat.completion.deleted", "deleted": True
    }  # fmt: skip
    path = f"{CHAT}/{made.id}"
    for answer in (
        gateway.client.get(path),
        gateway.client.delete(path),
        gateway.client.get(f"{path}/messages"),
        gateway.client.post(path, json={"metadata": {}}),
    ):
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", None)
        assert made.id in error["message"]


def test_pages_hold_while_others_are_stored(sdk: openai.OpenAI, mark: dict[str, str]) -> None:
    def store() -> str:
        return sdk.chat.completions.create(
            model="fake", messages=user("fake:tokens=1"), store=True, metadata=mark
        ).id

    before = [store() for _ in range(7)]
    stop = threading.Event()
    later: list[str] = []

    def keep_storing() -> None:
        while not stop.is_set() and len(later) < 200:
            later.append(store())

    thread = threading.Thread(target=keep_storing)
    thread.start()
    try:
        backwards = []
        first = sdk.chat.completions.list(metadata=mark, limit=2, order="desc")
        for page in first.iter_pages():
            backwards += [one.id for one in page.data]
            assert len(page.data) <= 2
            if before[0] in backwards:
                break
    finally:
        stop.set()
        thread.join()
    assert len(set(backwards)) == len(backwards)
    assert [one for one in backwards if one in before] == before[::-1]
    assert listed(sdk, mark, limit=3) == before + later


BAD_QUERIES = [
    ("limit=0", "limit"),
    ("limit=101", "limit"),
    ("limit=x", "limit"),
    ("order=up", "order"),
    ("order=asc&order=desc", "order"),
    ("after=chatcmpl-none", "after"),
    ("before=x", "before"),
    ("metadata=x", "metadata"),
    ("metadata[]=x", "metadata"),
    ("metadata[a]=1&metadata[a]=2", "metadata[a]"),
    ("model=%00", "model"),
]


@pytest.mark.parametrize(("query", "param"), BAD_QUERIES)
def test_a_wrong_query_is_named(gateway: Gateway, query: str, param: str) -> None:
    answer = gateway.client.get(f"{CHAT}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_other_methods_are_told_what_there_is(gateway: Gateway) -> None:
    answer = gateway.client.put(CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    answer = gateway.client.put(f"{CHAT}/x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, POST")
