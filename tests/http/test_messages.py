"""`/v1/messages` with the anthropic SDK and with bare HTTP, over the fake engine."""

import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from tests.conftest import Gateway

PATH = "/v1/messages"
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
TOOL: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture(scope="module")
def sdk(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        yield client


def asked(text: str, **more: Any) -> Any:
    message = {"role": "user", "content": text}
    return {"model": "fake", "max_tokens": 100, "messages": [message]} | more


def events_of(gateway: Gateway, body: Any) -> list[tuple[str, dict[str, Any]]]:
    """The events of a streamed answer, each with the name it came under."""
    answer = gateway.client.post(PATH, json=body | {"stream": True})
    assert answer.status_code == 200, answer.text
    found = re.findall(r"^event: (\w+)\ndata: (.*)\n\n", answer.text, re.MULTILINE)
    assert answer.text == "".join(f"event: {name}\ndata: {data}\n\n" for name, data in found)
    return [(name, json.loads(data)) for name, data in found]


def streamed(sdk: anthropic.Anthropic, body: Any) -> Message:
    with sdk.messages.stream(**body) as stream:
        return stream.get_final_message()


def alike(one: Message, other: Message) -> bool:
    """The same but for ids, and what only the first event has of the counts."""
    drop: Any = {"id": True, "usage": {"service_tier", "cache_creation"}}
    first, second = (m.model_dump(exclude=drop, exclude_none=True) for m in (one, other))
    for message in (first, second):
        for block in message["content"]:
            block.pop("id", None)
    return bool(first == second)


def test_unstreamed(sdk: anthropic.Anthropic) -> None:
    answer = sdk.messages.create(**asked("a b fake:tokens=3"))
    assert answer.id.startswith("msg_")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "fake")
    assert [block.model_dump(exclude_none=True) for block in answer.content] == [
        {"type": "text", "text": "w0 w1 w2"}
    ]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 3)
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("fake:tokens=5", {}),
        ("fake:tokens=5 fake:think=3", {}),
        ("fake:tokens=9", {"max_tokens": 2}),
        ("fake:tokens=9", {"stop_sequences": ["w9", "w4"]}),
        ("fake:think=2 fake:arguments={\"city\":\"Paris\"}",
         {"tools": [TOOL], "tool_choice": {"type": "any"}}),
        ("x", {"tools": [TOOL | {"strict": True}],
               "tool_choice": {"type": "tool", "name": "weather"}}),
        ("fake:think=2", {"thinking": {"type": "adaptive", "display": "omitted"}}),
    ],
)  # fmt: skip
def test_streamed_equals_unstreamed(
    sdk: anthropic.Anthropic, text: str, more: dict[str, Any]
) -> None:
    body = asked(text, **more)
    whole = sdk.messages.create(**body)
    # The first of a prompt may have cached more than the second is told of.
    whole = sdk.messages.create(**body)
    assert alike(streamed(sdk, body), whole)


def test_the_events_of_a_stream(gateway: Gateway) -> None:
    events = events_of(gateway, asked("fake:think=2 fake:tokens=2"))
    assert [name for name, _ in events] == [event["type"] for _, event in events]
    assert [name for name, _ in events if name != "content_block_delta"] == [
        "message_start", "ping", "content_block_start", "content_block_stop",
        "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    deltas = [event["delta"]["type"] for name, event in events if name == "content_block_delta"]
    assert deltas == ["thinking_delta"] * 2 + ["signature_delta"] + ["text_delta"] * 2
    for name, event in events:
        if name != "ping":
            EVENT.validate_python(event)
    start, end = events[0][1]["message"], events[-2][1]
    assert start["content"] == []
    assert start["usage"]["input_tokens"] == 2
    assert start["usage"]["output_tokens"] == 0
    assert end["usage"]["output_tokens"] == 4
    assert end["delta"]["stop_reason"] == "end_turn"


def test_tokens_read_from_the_cache_are_not_input_tokens(sdk: anthropic.Anthropic) -> None:
    body = asked(" ".join(f"cached{i}" for i in range(200)))
    first = sdk.messages.create(**body).usage
    again = sdk.messages.create(**body).usage
    assert (first.input_tokens, first.cache_read_input_tokens) == (200, 0)
    assert again.cache_read_input_tokens is not None
    assert again.cache_read_input_tokens > 100
    assert again.input_tokens + again.cache_read_input_tokens == 200
    assert streamed(sdk, body).usage.input_tokens == again.input_tokens


def test_stop_sequence(sdk: anthropic.Anthropic) -> None:
    answer = sdk.messages.create(**asked("fake:tokens=9", stop_sequences=["w7", "w3"]))
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "w3")


def test_max_tokens_is_an_upper_bound(sdk: anthropic.Anthropic) -> None:
    """Agents ask for more than the whole context, and mean what is left of it."""
    answer = sdk.messages.create(**asked("fake:tokens=9", max_tokens=20_000))
    assert answer.stop_reason == "end_turn"
    assert sdk.messages.create(**asked("fake:tokens=9", max_tokens=4)).stop_reason == "max_tokens"


@pytest.mark.parametrize("stream", [False, True])
def test_a_round_trip_with_tools(sdk: anthropic.Anthropic, stream: bool) -> None:
    text = 'fake:call=weather fake:think=1 fake:arguments={"city":"Paris"}'
    body = asked(text, tools=[TOOL])
    answer = streamed(sdk, body) if stream else sdk.messages.create(**body)
    assert answer.stop_reason == "tool_use"
    content: list[Any] = list(answer.content)
    thought, call = content
    assert thought.type == "thinking"
    assert thought.signature
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("weather", {"city": "Paris"})
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "fake:call=no"}
    turns = [
        *body["messages"],
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result, {"type": "text", "text": "so? fake:say=It_rains"}]},
    ]
    body |= {"messages": turns}
    last = streamed(sdk, body) if stream else sdk.messages.create(**body)
    assert last.stop_reason == "end_turn"
    said: Any = last.content[-1]
    assert (said.type, said.text) == ("text", "It rains")


def test_a_strict_tool_whose_schema_is_broken_is_no_answer(gateway: Gateway) -> None:
    schema = {"type": "object", "required": ["city"]}
    tool = TOOL | {"strict": True, "input_schema": schema}
    body = asked("x", tools=[tool], tool_choice={"type": "any"})
    answer = gateway.client.post(PATH, json=body)
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "api_error"
    assert "break its schema" in answer.text


CLAUDE_CODE: dict[str, Any] = {
    "model": "fake",
    "max_tokens": 32_000,
    "stream": True,
    "temperature": 1,
    "metadata": {"user_id": "user_0123_account__session_4567"},
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=8f2a1;"},
        {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be short.",
         "cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}},
    ],
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>Today is Monday.</system-reminder>"},
            {"type": "text", "text": "fake:say=Done", "cache_control": {"type": "ephemeral"}},
        ]},
    ],
    "tools": [
        TOOL | {"name": f"mcp__server__tool_{i}", "eager_input_streaming": True}
        for i in range(150)
    ],
    "thinking": {"type": "enabled", "budget_tokens": 31_999},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
}  # fmt: skip


def test_what_claude_code_sends(gateway: Gateway) -> None:
    headers = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "anthropic-dangerous-direct-browser-access": "true",
        "x-app": "cli",
    }
    answer = gateway.client.post(f"{PATH}?beta=true", json=CLAUDE_CODE, headers=headers)
    assert answer.status_code == 200, answer.text
    assert '"text":"Done"' in answer.text
    assert '"context_management":{"applied_edits":[]}' in answer.text
    assert answer.text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')
    count = {key: CLAUDE_CODE[key] for key in ("model", "system", "messages", "tools", "thinking")}
    counted = gateway.client.post(f"{PATH}/count_tokens?beta=true", json=count, headers=headers)
    usage = re.findall(r'"input_tokens":(\d+)', answer.text)
    assert counted.json() == {"input_tokens": int(usage[0])}


def test_the_beta_part_of_the_sdk(sdk: anthropic.Anthropic) -> None:
    answer = sdk.beta.messages.create(**asked("fake:tokens=1"), betas=["context-1m-2025-08-07"])
    assert answer.content[0].type == "text"


def test_count_tokens_generates_nothing(gateway: Gateway, sdk: anthropic.Anthropic) -> None:
    def served() -> str:
        page = gateway.client.get("/metrics").text
        found = re.search(r"^fake_requests_served_total\{.*\} (\d+)", page, re.MULTILINE)
        assert found is not None
        return found[1]

    before = served()
    bare = sdk.messages.count_tokens(model="fake", messages=asked("a b c")["messages"])
    assert bare.input_tokens == 3
    more = sdk.messages.count_tokens(
        model="fake", messages=asked("a b c")["messages"], system="d e", tools=[TOOL]
    )
    assert more.input_tokens == 3 + 2 + 4
    assert served() == before


def raised(call: Any, kind: type[anthropic.APIStatusError]) -> anthropic.APIStatusError:
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    body: Any = error.body
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    headers = error.response.headers
    assert error.request_id == headers["x-request-id"] == body["request_id"]
    return error


def test_errors_by_type(gateway: Gateway, sdk: anthropic.Anthropic) -> None:
    messages = sdk.messages
    error = raised(
        lambda: messages.create(**asked("x", model="claude-opus-9")), anthropic.NotFoundError
    )
    assert error.type == "not_found_error"
    error = raised(
        lambda: messages.create(**asked("x", extra_body={"temperature": 3})),
        anthropic.BadRequestError,
    )
    assert error.type == "invalid_request_error"
    assert "temperature" in error.message
    error = raised(
        lambda: messages.create(**asked("x " * 9000), stream=True), anthropic.BadRequestError
    )
    assert "prompt is too long" in error.message
    error = raised(lambda: messages.create(**asked("fake:status=503")), anthropic.OverloadedError)
    assert (error.type, error.status_code) == ("overloaded_error", 529)
    assert error.response.headers["x-should-retry"] == "true"
    assert error.response.headers["retry-after"] == "1"
    error = raised(
        lambda: messages.create(**asked("fake:status=500")), anthropic.InternalServerError
    )
    assert error.type == "api_error"
    stranger = anthropic.Anthropic(base_url=gateway.url, api_key="sk-no", max_retries=0)
    error = raised(lambda: stranger.messages.create(**asked("x")), anthropic.AuthenticationError)
    assert error.type == "authentication_error"
    bearer = anthropic.Anthropic(base_url=gateway.url, auth_token=gateway.key, max_retries=0)
    assert bearer.messages.create(**asked("x")).stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "kind"),
    [
        ("POST", PATH, b"{", 400, "invalid_request_error"),
        ("POST", PATH, b"[]", 400, "invalid_request_error"),
        ("POST", f"{PATH}/count_tokens", b"{}", 400, "invalid_request_error"),
        ("GET", PATH, b"", 405, "invalid_request_error"),
        ("POST", f"{PATH}/batches", b"{}", 404, "not_found_error"),
        ("GET", f"{PATH}/batches/msgbatch_1", b"", 404, "not_found_error"),
        ("POST", PATH, b"x" * 9_000_000, 413, "request_too_large"),
    ],
)
def test_every_refusal_has_anthropics_shape(
    gateway: Gateway, method: str, path: str, content: bytes, status: int, kind: str
) -> None:
    answer = gateway.client.request(method, path, content=content)
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == kind
    assert answer.json()["error"]["message"]
    assert answer.headers["request-id"] == answer.json()["request_id"]


def test_without_a_key(gateway: Gateway) -> None:
    answer = httpx.post(gateway.url + PATH, content=b"{")
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


def test_the_other_addresses_keep_their_shape(gateway: Gateway) -> None:
    answer = gateway.client.get("/v1/messagesx")
    assert set(answer.json()) == {"error"}
    assert "request-id" not in answer.headers


@pytest.mark.parametrize("fault", ["error", "abort", "drop", "garbage"])
def test_a_failure_mid_stream_is_an_error_event(
    gateway: Gateway, sdk: anthropic.Anthropic, fault: str
) -> None:
    body = asked(f"fake:tokens=6 fake:{fault}@3")
    events = events_of(gateway, body)
    assert events[0][0] == "message_start"
    name, last = events[-1]
    assert name == "error"
    assert last["error"]["type"] == "api_error"
    assert last["request_id"].startswith("req_")
    assert not {"message_delta", "message_stop"} & {name for name, _ in events}
    with pytest.raises(anthropic.APIStatusError):
        streamed(sdk, body)


def test_a_failure_before_the_first_token_is_a_status(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.InternalServerError):
        sdk.messages.create(**asked("fake:error@0"), stream=True)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}]},
         "messages[0].content[0].source.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]},
         "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tool_choice": {"type": "tool", "name": "absent"}, "tools": [TOOL]}, "absent"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "assistant", "content": "So "}]}, "whitespace"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
         "context_management.edits[0].type"),
    ],
)  # fmt: skip
def test_what_would_change_the_meaning_is_refused_by_name(
    gateway: Gateway, change: dict[str, Any], word: str
) -> None:
    answer = gateway.client.post(PATH, json=asked("x") | change)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert word in answer.json()["error"]["message"]
