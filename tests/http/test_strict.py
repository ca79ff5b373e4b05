"""Every body and event of real exchanges is what the hosted APIs and their SDKs say it is."""

import base64
import json
import struct
import time
from typing import Any

import httpx
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.beta import (
    BetaMessage,
    BetaMessageTokensCount,
    BetaRawMessageStreamEvent,
)
from anthropic.types.shared import ErrorResponse
from openai.types import (
    Batch,
    Completion,
    CreateEmbeddingResponse,
    FileDeleted,
    FileObject,
    Model,
    Upload,
)
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionDeleted,
    ChatCompletionStoreMessage,
)
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItem,
)
from openai.types.responses import (
    CompactedResponse,
    Response,
    ResponseItem,
    ResponseStreamEvent,
)
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from openai.types.shared import ErrorObject
from openai.types.uploads import UploadPart

from tests.conftest import Gateway
from tests.http.oracle import events_of, judge, judge_type

CHAT = "/v1/chat/completions"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
FLAT_TOOL = {"type": "function", "name": "weather", "strict": False, "parameters": PARAMETERS}
SAID = "fake:tokens=3"
THOUGHT = "fake:think=2 fake:tokens=2"
CALLED = 'fake:call=weather fake:arguments={"city":"Ulm"}'
CHATS: dict[str, dict[str, Any]] = {
    "plain": {"messages": [{"role": "user", "content": SAID}]},
    "thought": {"messages": [{"role": "user", "content": THOUGHT}]},
    "called": {"messages": [{"role": "user", "content": CALLED}], "tools": [TOOL]},
    "cut": {"messages": [{"role": "user", "content": SAID}], "max_tokens": 1},
    "logprobs": {
        "messages": [{"role": "user", "content": SAID}],
        "logprobs": True,
        "top_logprobs": 2,
        "n": 2,
    },
}
RESPONSES: dict[str, dict[str, Any]] = {
    "plain": {"input": SAID, "metadata": {"a": "b"}, "instructions": "Be kind."},
    "thought": {"input": THOUGHT, "include": ["reasoning.encrypted_content"]},
    "called": {"input": CALLED, "tools": [FLAT_TOOL], "tool_choice": "auto"},
    "custom": {
        "input": 'fake:call=note fake:arguments={"input":"x"}',
        "tools": [{"type": "custom", "name": "note"}],
    },
    "cut": {"input": SAID, "max_output_tokens": 1},
    "logprobs": {
        "input": SAID,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
    },
    "replayed": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": SAID}]},
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "warm"},
            {"type": "reasoning", "summary": [], "content": []},
        ],
        "tools": [FLAT_TOOL],
        "tool_choice": {"type": "function", "name": "weather"},
    },
}


def got(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.text


def post(gateway: Gateway, path: str, **body: Any) -> str:
    return got(gateway.client.post(path, json={"model": "fake", **body}))


def get(gateway: Gateway, path: str) -> str:
    return got(gateway.client.get(path))


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def judge_page(name: str, kind: Any, body: str) -> list[dict[str, Any]]:
    """A list of OpenAI's, and each of its members."""
    judge(name, None, body)
    data: list[dict[str, Any]] = json.loads(body)["data"]
    for one in data:
        judge_type(kind, json.dumps(one))
    return data


@pytest.mark.parametrize("name", CHATS)
def test_chat(gateway: Gateway, name: str) -> None:
    body = post(gateway, CHAT, **CHATS[name])
    judge("CreateChatCompletionResponse", ChatCompletion, body)
    asked = {**CHATS[name], "stream": True, "stream_options": {"include_usage": True}}
    chunks = events_of(post(gateway, CHAT, **asked))
    assert chunks.pop() == "[DONE]"
    assert len(chunks) > 2
    for one in chunks:
        judge("CreateChatCompletionStreamResponse", ChatCompletionChunk, one)


def test_stored_chats(gateway: Gateway) -> None:
    made = post(gateway, CHAT, **CHATS["called"], store=True, metadata={"a": "b"})
    judge("CreateChatCompletionResponse", ChatCompletion, made)
    there = f"{CHAT}/{json.loads(made)['id']}"
    judge("CreateChatCompletionResponse", ChatCompletion, get(gateway, there))
    assert judge_page("ChatCompletionList", ChatCompletion, get(gateway, f"{CHAT}?limit=100"))
    messages = json.loads(get(gateway, f"{there}/messages"))
    assert [one["role"] for one in messages["data"]] == ["user"]
    # The file and the SDK know no message but an assistant's, though others are asked for.
    for one in messages["data"]:
        one["role"] = "assistant"
    judge_page("ChatCompletionMessageList", ChatCompletionStoreMessage, json.dumps(messages))
    changed = got(gateway.client.post(there, json={"metadata": {}}))
    judge("CreateChatCompletionResponse", ChatCompletion, changed)
    judge("ChatCompletionDeleted", ChatCompletionDeleted, got(gateway.client.delete(there)))


@pytest.mark.parametrize("more", [{}, {"logprobs": 2, "echo": True}, {"n": 2, "max_tokens": 1}])
def test_completions(gateway: Gateway, more: dict[str, Any]) -> None:
    judge("CreateCompletionResponse", Completion, post(gateway, "/v1/completions", prompt=SAID))
    chunks = events_of(post(gateway, "/v1/completions", prompt=SAID, stream=True, **more))
    assert chunks.pop() == "[DONE]"
    for one in chunks:
        body = json.loads(one)
        for choice in body["choices"]:
            # The file has no schema for a chunk, whose reason is null until the end.
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        judge("CreateCompletionResponse", Completion, json.dumps(body))


def test_completions_of_several_prompts(gateway: Gateway) -> None:
    body = post(gateway, "/v1/completions", prompt=["a", "b"], n=2)
    judge("CreateCompletionResponse", Completion, body)
    assert [one["index"] for one in json.loads(body)["choices"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", RESPONSES)
def test_responses(gateway: Gateway, name: str) -> None:
    body = post(gateway, "/v1/responses", **RESPONSES[name])
    judge("Response", Response, body)
    there = f"/v1/responses/{json.loads(body)['id']}"
    judge("Response", Response, get(gateway, there))
    assert judge_page("ResponseItemList", ResponseItem, get(gateway, f"{there}/input_items"))
    events = events_of(post(gateway, "/v1/responses", **RESPONSES[name], stream=True))
    alone = post(gateway, "/v1/responses", **RESPONSES[name], background=True)
    judge("Response", Response, alone)
    events += events_of(get(gateway, f"/v1/responses/{json.loads(alone)['id']}?stream=true"))
    assert len(events) > 12
    for one in events:
        judge("ResponseStreamEvent", ResponseStreamEvent, one)
    counted = {
        key: RESPONSES[name][key]
        for key in ("input", "tools", "tool_choice", "instructions", "text")
        if key in RESPONSES[name]
    }
    judge(
        "TokenCountsResource",
        InputTokenCountResponse,
        post(gateway, "/v1/responses/input_tokens", **counted),
    )
    assert json.loads(got(gateway.client.delete(there)))["deleted"] is True


def test_compaction(gateway: Gateway) -> None:
    body = post(gateway, "/v1/responses/compact", input=SAID)
    judge("CompactResource", None, body)
    # The SDK's type knows no message of a user's, which compaction leaves as it is.
    answer = json.loads(body)
    assert answer["output"].pop(0)["role"] == "user"
    judge_type(CompactedResponse, json.dumps(answer))


def test_background_responses(gateway: Gateway) -> None:
    asked = {"input": "fake:tokens=500 fake:pace=0.02", "background": True, "stream": True}
    with gateway.client.stream("POST", "/v1/responses", json={"model": "fake", **asked}) as answer:
        lines = answer.iter_lines()
        first = next(line[6:] for line in lines if line.startswith("data: "))
        judge("ResponseStreamEvent", ResponseStreamEvent, first)
        there = f"/v1/responses/{json.loads(first)['response']['id']}"
        judge("Response", Response, get(gateway, there))
        judge("Response", Response, got(gateway.client.post(f"{there}/cancel")))
        rest = [line[6:] for line in lines if line.startswith("data: ")]
    assert json.loads(rest[-1])["code"] == "response_cancelled"
    for one in rest:
        judge("ResponseStreamEvent", ResponseStreamEvent, one)


def test_conversations(gateway: Gateway) -> None:
    items = RESPONSES["replayed"]["input"]
    made = got(gateway.client.post("/v1/conversations", json={"items": items}))
    judge("ConversationResource", Conversation, made)
    there = f"/v1/conversations/{json.loads(made)['id']}"
    post(gateway, "/v1/responses", input=SAID, conversation=json.loads(made)["id"])
    judge("ConversationResource", Conversation, get(gateway, there))
    changed = got(gateway.client.post(there, json={"metadata": {"a": "b"}}))
    judge("ConversationResource", Conversation, changed)
    added = got(gateway.client.post(f"{there}/items", json={"items": items}))
    assert len(judge_page("ConversationItemList", ConversationItem, added)) == 4
    listed = judge_page("ConversationItemList", ConversationItem, get(gateway, f"{there}/items"))
    assert len(listed) == 10
    one = f"{there}/items/{listed[0]['id']}"
    judge("ConversationItem", ConversationItem, get(gateway, one))
    judge("ConversationResource", Conversation, got(gateway.client.delete(one)))
    gone = got(gateway.client.delete(there))
    judge("DeletedConversationResource", ConversationDeletedResource, gone)


def sent_file(gateway: Gateway, content: bytes) -> str:
    return got(
        gateway.client.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)}
        )
    )


def test_files_and_uploads(gateway: Gateway) -> None:
    made = sent_file(gateway, b"{}")
    judge("OpenAIFile", FileObject, made)
    there = f"/v1/files/{json.loads(made)['id']}"
    judge("OpenAIFile", FileObject, get(gateway, there))
    assert judge_page("ListFilesResponse", FileObject, get(gateway, "/v1/files"))
    judge("DeleteFileResponse", FileDeleted, got(gateway.client.delete(there)))
    asked = {"filename": "f", "purpose": "batch", "bytes": 2, "mime_type": "text/plain"}
    for end in ("complete", "cancel"):
        begun = got(gateway.client.post("/v1/uploads", json=asked))
        judge("Upload", Upload, begun)
        upload = f"/v1/uploads/{json.loads(begun)['id']}"
        part = got(gateway.client.post(f"{upload}/parts", files={"data": b"{}"}))
        judge("UploadPart", UploadPart, part)
        body = {"part_ids": [json.loads(part)["id"]]} if end == "complete" else None
        judge("Upload", Upload, got(gateway.client.post(f"{upload}/{end}", json=body)))


def test_batches(gateway: Gateway) -> None:
    line = {"custom_id": "a", "method": "POST", "url": CHAT}
    good = json.dumps({**line, "body": {"model": "fake", "messages": user(SAID)}})
    for content, status in ((good, "completed"), ("{", "failed")):
        file_id = json.loads(sent_file(gateway, content.encode()))["id"]
        asked = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        made = got(gateway.client.post("/v1/batches", json=asked))
        judge("Batch", Batch, made)
        there = f"/v1/batches/{json.loads(made)['id']}"
        body, deadline_s = made, time.monotonic() + 20
        while json.loads(body)["status"] != status and time.monotonic() < deadline_s:
            body = get(gateway, there)
            judge("Batch", Batch, body)
            time.sleep(0.02)
        assert json.loads(body)["status"] == status
    assert judge_page("ListBatchesResponse", Batch, get(gateway, "/v1/batches"))


def test_models(gateway: Gateway) -> None:
    assert judge_page("ListModelsResponse", Model, get(gateway, "/v1/models"))
    judge("Model", Model, get(gateway, "/v1/models/fake"))


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(both: Gateway, encoding: str) -> None:
    asked = {"model": "vectors", "input": ["a", "b"], "encoding_format": encoding}
    body = got(both.client.post("/v1/embeddings", json=asked))
    if encoding == "base64":
        # The file and the SDK's type know numbers only; the SDK decodes before it looks.
        answer = json.loads(body)
        for one in answer["data"]:
            vector = base64.b64decode(one["embedding"])
            one["embedding"] = list(struct.unpack(f"<{len(vector) // 4}f", vector))
        body = json.dumps(answer)
    judge("CreateEmbeddingResponse", CreateEmbeddingResponse, body)
    assert [one["index"] for one in json.loads(body)["data"]] == [0, 1]


ANTHROPIC: dict[str, dict[str, Any]] = {
    "plain": {"messages": user(SAID), "system": "Be kind."},
    "thought": {"messages": user(THOUGHT), "thinking": {"type": "adaptive"}},
    "called": {
        "messages": user(CALLED),
        "tools": [{"name": "weather", "input_schema": PARAMETERS}],
    },
    "cut": {"messages": user("fake:tokens=9"), "max_tokens": 2},
}


@pytest.mark.parametrize("name", ANTHROPIC)
def test_messages(gateway: Gateway, name: str) -> None:
    asked = {"max_tokens": 50, **ANTHROPIC[name]}
    body = post(gateway, "/v1/messages", **asked)
    judge_type(Message, body)
    judge_type(BetaMessage, body)
    events = events_of(post(gateway, "/v1/messages", **asked, stream=True))
    assert len(events) > 5
    for one in events:
        if json.loads(one)["type"] != "ping":
            judge_type(RawMessageStreamEvent, one)
            judge_type(BetaRawMessageStreamEvent, one)
    del asked["max_tokens"]
    counted = post(gateway, "/v1/messages/count_tokens", **asked)
    judge_type(MessageTokensCount, counted)
    assert json.loads(counted)["input_tokens"] > 0


def test_edits_that_are_asked_for(gateway: Gateway) -> None:
    edits = {"edits": [{"type": "clear_thinking_20251015"}]}
    asked = {"messages": user(SAID), "context_management": edits}
    judge_type(BetaMessage, post(gateway, "/v1/messages", max_tokens=9, **asked))
    counted = post(gateway, "/v1/messages/count_tokens", **asked)
    judge_type(BetaMessageTokensCount, counted)
    events = events_of(post(gateway, "/v1/messages", max_tokens=9, **asked, stream=True))
    assert len(events) > 5
    for one in events:
        if json.loads(one)["type"] != "ping":
            judge_type(BetaRawMessageStreamEvent, one)


WRONG: list[tuple[str, str, Any, int]] = [
    ("POST", CHAT, {}, 400),
    ("POST", CHAT, {"model": "none", "messages": user("x")}, 404),
    ("POST", "/v1/responses", {"model": "fake", "input": 1}, 400),
    ("GET", "/v1/responses/resp_none", None, 404),
    ("GET", "/v1/unknown", None, 404),
    ("PUT", CHAT, None, 405),
    ("POST", "/v1/embeddings", {"model": "fake", "input": "x"}, 400),
    ("POST", "/v1/messages", {}, 400),
    ("GET", "/v1/messages", None, 405),
    ("POST", "/v1/messages", {"model": "none", "max_tokens": 1, "messages": user("x")}, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), WRONG)
def test_errors(gateway: Gateway, method: str, path: str, body: Any, status: int) -> None:
    answer = gateway.client.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    if path.startswith("/v1/messages"):
        judge_type(ErrorResponse, answer.text)
    else:
        judge("ErrorResponse", None, answer.text)
        judge_type(ErrorObject, json.dumps(answer.json()["error"]))


def test_a_judge_that_could_not_condemn_would_be_none(gateway: Gateway) -> None:
    body = json.loads(post(gateway, CHAT, **CHATS["plain"]))
    for change in ({"created": "now"}, {"choices": None}, {"strange": 1}):
        with pytest.raises((AssertionError, ValueError)):
            judge("CreateChatCompletionResponse", ChatCompletion, json.dumps(body | change))
    del body["created"]
    with pytest.raises(AssertionError, match="created"):
        judge("CreateChatCompletionResponse", ChatCompletion, json.dumps(body))
