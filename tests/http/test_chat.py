"""`/v1/chat/completions` with the openai SDK and with bare HTTP, over the fake engine."""

from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Gateway


@pytest.fixture(scope="module")
def sdk(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_unstreamed(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="fake", messages=user("a b fake:tokens=3"))
    assert answer.choices[0].message.content == "w0 w1 w2"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)
    assert answer.model == "fake"
    assert answer.id.startswith("chatcmpl-")
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


def test_streamed_equals_unstreamed(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="fake", messages=user("fake:tokens=5 fake:think=2"))
    chunks = list(
        sdk.chat.completions.create(
            model="fake",
            messages=user("fake:tokens=5 fake:think=2"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    thoughts = "".join(getattr(c.choices[0].delta, "reasoning", "") for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert thoughts.split() == ["t0", "t1"]
    assert sum(1 for c in chunks if c.choices and c.choices[0].delta.role) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(c.usage is None for c in chunks[:-1])


def test_n_and_length(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model="fake", messages=user("fake:tokens=9"), n=3, max_completion_tokens=2
    )
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert {c.finish_reason for c in answer.choices} == {"length"}
    chunks = list(
        sdk.chat.completions.create(model="fake", messages=user("fake:tokens=3"), n=2, stream=True)
    )
    ends = [c.choices[0].index for c in chunks if c.choices[0].finish_reason]
    assert sorted(ends) == [0, 1]


def test_tools_streamed_and_not(sdk: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    whole = sdk.chat.completions.create(
        model="fake", messages=user("x"), tools=tools, tool_choice="required"
    )
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "weather"  # type: ignore[union-attr]  # a function tool
    assert whole.choices[0].finish_reason == "tool_calls"
    chunks = list(
        sdk.chat.completions.create(
            model="fake", messages=user("x"), tools=tools, tool_choice="required", stream=True
        )
    )
    deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or []]
    assert deltas[0].index == 0
    assert deltas[0].id
    assert deltas[0].function is not None
    assert deltas[0].function.name == "weather"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_strict_tool_called_with_the_wrong_arguments_is_an_error(sdk: openai.OpenAI) -> None:
    parameters = {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False,
    }  # fmt: skip
    tools: Any = [
        {"type": "function",
         "function": {"name": "weather", "parameters": parameters, "strict": True}}
    ]  # fmt: skip
    with pytest.raises(openai.InternalServerError) as caught:
        sdk.chat.completions.create(
            model="fake", messages=user("x"), tools=tools, tool_choice="required"
        )
    assert caught.value.code == "tool_call_invalid"
    with pytest.raises(openai.APIError, match="schema"):
        list(
            sdk.chat.completions.create(
                model="fake", messages=user("x"), tools=tools, tool_choice="required", stream=True
            )
        )


def test_completions(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="fake", prompt="a b", max_tokens=2)
    assert answer.choices[0].text == "w0 w1"
    assert answer.object == "text_completion"
    chunks = list(sdk.completions.create(model="fake", prompt="a b", max_tokens=2, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == "w0 w1"


def test_models(sdk: openai.OpenAI) -> None:
    listed = {m.id: m for m in sdk.models.list()}
    assert set(listed) == {"fake", "default"}
    assert sdk.models.retrieve("default") == listed["default"]
    assert listed["fake"].created > 1_600_000_000
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


def test_an_alias_answers_as_the_pinned_id(sdk: openai.OpenAI) -> None:
    assert sdk.chat.completions.create(model="default", messages=user("x")).model == "fake"


@pytest.mark.parametrize("fault", ["error@2", "abort@2", "drop@2", "garbage@2"])
def test_a_failure_midway_is_never_a_clean_end(gateway: Gateway, fault: str) -> None:
    body = {"model": "fake", "stream": True, "messages": user(f"fake:{fault}")}
    answer = gateway.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    events = answer.text.strip().split("\n\n")
    assert '"error"' in events[-1]
    assert "[DONE]" not in answer.text
    assert '"finish_reason":"stop"' not in answer.text
    assert "fake failure" not in answer.text


def test_a_failure_before_the_first_token_is_a_status(gateway: Gateway) -> None:
    body = {"model": "fake", "messages": user("fake:status=500"), "stream": True}
    answer = gateway.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert answer.headers["x-should-retry"] == "true"


def test_unstreamed_abort_is_an_error(gateway: Gateway) -> None:
    body = {"model": "fake", "messages": user("fake:abort@1")}
    answer = gateway.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 500


def test_a_client_that_leaves_stops_its_generation(gateway: Gateway) -> None:
    body = {"model": "fake", "stream": True, "messages": user("fake:hang@3")}
    with gateway.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        pieces = answer.iter_raw()
        assert next(pieces)
        assert running(gateway) == 1
    for _ in range(200):
        if running(gateway) == 0:
            break
    assert running(gateway) == 0
    with pytest.raises(httpx.ReadTimeout):
        gateway.client.post("/v1/chat/completions", json=body | {"stream": False}, timeout=0.3)
    for _ in range(200):
        if running(gateway) == 0:
            break
    assert running(gateway) == 0
    assert 'outcome="cancelled"' in gateway.client.get("/metrics").text


def running(gateway: Gateway) -> int:
    page = gateway.client.get("/metrics").text
    line = next(ln for ln in page.splitlines() if ln.startswith("vllm:num_requests_running{"))
    return int(line.rsplit(" ", 1)[1])
