"""`/v1/responses` with the openai SDK and with bare HTTP, over the fake engine."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import TypeAdapter

from tests.conftest import Gateway

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
RESPONSE = TypeAdapter(Response)
REQUIRED = {
    "id", "object", "created_at", "completed_at", "error", "incomplete_details", "instructions",
    "metadata", "model", "output", "parallel_tool_calls", "temperature", "tool_choice", "tools",
    "top_p", "background", "conversation", "max_output_tokens", "max_tool_calls",
    "previous_response_id", "prompt_cache_key", "reasoning", "safety_identifier", "service_tier",
    "status", "store", "text", "top_logprobs", "truncation", "usage",
}  # fmt: skip
WEATHER = {
    "type": "function", "name": "weather", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


@pytest.fixture(scope="module")
def sdk(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


def create(gateway: Gateway, text: Any, **fields: Any) -> dict[str, Any]:
    answer = gateway.client.post("/v1/responses", json={"model": "fake", "input": text, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    check(body)
    return body


def check(response: dict[str, Any]) -> None:
    """The object is what the SDK's types and the public schema say it is."""
    RESPONSE.validate_json(json.dumps(response), strict=True)
    assert set(response) >= REQUIRED


def events_of(text: str, first: int = 0) -> list[dict[str, Any]]:
    """The events of a stream, each of them valid, numbered without a gap."""
    found = []
    for part in text.removesuffix("\n\n").split("\n\n"):
        name, _, data = part.partition("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_json(data.removeprefix("data: "), strict=True)
        if "response" in event:
            check(event["response"])
        found.append(event)
    assert [e["sequence_number"] for e in found] == list(range(first, first + len(found)))
    return found


def stream(gateway: Gateway, text: Any, **fields: Any) -> list[dict[str, Any]]:
    asked = {"model": "fake", "input": text, "stream": True, **fields}
    answer = gateway.client.post("/v1/responses", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_of(answer.text)


def final_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    final: dict[str, Any] = events[-1]["response"]
    assert events[-1]["type"] == f"response.{final['status']}"
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert final["output"] == done
    return final


def until_ended(gateway: Gateway, response_id: str) -> dict[str, Any]:
    for _ in range(200):
        body: dict[str, Any] = gateway.client.get(f"/v1/responses/{response_id}").json()
        if body["status"] not in ("queued", "in_progress"):
            check(body)
            return body
        time.sleep(0.02)
    raise AssertionError(f"{response_id} has not ended")


def test_whole(gateway: Gateway, sdk: openai.OpenAI) -> None:
    body = create(gateway, "a b fake:tokens=3", metadata={"k": "v"}, prompt_cache_key="p")
    assert body["status"] == "completed"
    assert body["output"][0]["content"][0]["text"] == "w0 w1 w2"
    assert body["usage"] == {
        "input_tokens": 3, "output_tokens": 3, "total_tokens": 6,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    assert (body["metadata"], body["prompt_cache_key"]) == ({"k": "v"}, "p")
    assert body["completed_at"] >= body["created_at"]
    assert body["error"] is None
    assert sdk.responses.retrieve(body["id"]).output_text == "w0 w1 w2"
    assert gateway.client.get(f"/v1/responses/{body['id']}").json() == body


def test_streamed_is_what_is_kept(gateway: Gateway) -> None:
    events = stream(gateway, "fake:tokens=4 fake:think=2")
    kinds = [e["type"] for e in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.reasoning_text.delta") == 2
    assert kinds.count("response.output_text.delta") == 4
    final = final_of(events)
    assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
    assert final["output"][0]["content"] == [{"type": "reasoning_text", "text": "t0 t1"}]
    assert final["output"][0]["summary"] == []
    assert gateway.client.get(f"/v1/responses/{final['id']}").json() == final
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == final["output"][event["output_index"]]["id"]


def test_the_sdks_own_stream(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(model="fake", input="fake:tokens=3") as streaming:
        kinds = [event.type for event in streaming]
        assert streaming.get_final_response().output_text == "w0 w1 w2"
    assert kinds[-1] == "response.completed"


def test_tools_in_a_namespace(gateway: Gateway) -> None:
    space = {"type": "namespace", "name": "sky", "description": "The sky.", "tools": [WEATHER]}
    asked: dict[str, Any] = {"tools": [space], "client_metadata": {"turn_id": "t"}}
    text = 'fake:call=sky__weather fake:arguments={"city":"Bern"}'
    whole = create(gateway, text, **asked)
    streamed = final_of(stream(gateway, text, **asked))
    for response in (whole, streamed):
        (call,) = response["output"]
        assert (call["type"], call["namespace"], call["name"]) == (
            "function_call", "sky", "weather",
        )  # fmt: skip
        (shown,) = response["tools"]
        assert (shown["type"], shown["name"]) == ("namespace", "sky")
        assert "client_metadata" not in response
    said = {"type": "message", "role": "user", "content": text}
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "fake:call=no"}
    # The model is shown its own call under the name it called.
    again = create(gateway, [said, call, output], store=False, **asked)
    assert again["output"][0]["type"] == "message"
    more = create(gateway, [output], previous_response_id=streamed["id"], **asked)
    assert more["usage"]["input_tokens"] == again["usage"]["input_tokens"]


def test_tools_there_and_back(gateway: Gateway) -> None:
    text = 'fake:call=weather fake:arguments={"city":"Bern"}'
    events = stream(gateway, text, tools=[WEATHER])
    final = final_of(events)
    call = final["output"][0]
    assert (call["type"], call["name"]) == ("function_call", "weather")
    assert json.loads(call["arguments"]) == {"city": "Bern"}
    added = next(e["item"] for e in events if e["type"] == "response.output_item.added")
    assert (added["id"], added["call_id"]) == (call["id"], call["call_id"])
    deltas = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call["arguments"]
    answered = {"type": "function_call_output", "call_id": call["call_id"], "output": "dry"}
    again = create(gateway, [answered], previous_response_id=final["id"])
    assert again["previous_response_id"] == final["id"]
    # The fake engine counts words: the first prompt's two, the output's one.
    assert again["usage"]["input_tokens"] >= 3


def test_a_custom_tools_input_streams_as_text(gateway: Gateway) -> None:
    tools = [{"type": "custom", "name": "run"}]
    text = 'fake:call=run fake:arguments={"input":"ls\\n\\u00e9"}'
    final = final_of(events := stream(gateway, text, tools=tools))
    assert final["output"][0]["type"] == "custom_tool_call"
    assert final["output"][0]["input"] == "ls\né"
    deltas = [e["delta"] for e in events if e["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == "ls\né"


def test_the_chain_carries_the_history(gateway: Gateway) -> None:
    first = create(gateway, "one two fake:tokens=2")
    second = create(gateway, "three", previous_response_id=first["id"])
    assert second["usage"]["input_tokens"] == 3 + 2 + 1
    gateway.client.delete(f"/v1/responses/{first['id']}")
    answer = gateway.client.post(
        "/v1/responses",
        json={"model": "fake", "input": "x", "previous_response_id": second["id"]},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "previous_response_not_found"


def test_an_item_may_be_referred_to(gateway: Gateway) -> None:
    first = create(gateway, "fake:tokens=2")
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    second = create(gateway, [reference, {"role": "user", "content": "and now"}])
    assert second["usage"]["input_tokens"] == 2 + 2
    shown = gateway.client.get(f"/v1/responses/{second['id']}/input_items?order=asc").json()
    assert shown["data"][0] == first["output"][0]
    reference["id"] = "msg_" + "0" * 36
    refused = gateway.client.post(
        "/v1/responses", json={"model": "fake", "input": [reference]}
    ).json()
    assert refused["error"]["message"] == f"Item with id '{reference['id']}' not found."


def test_a_turn_is_added_to_its_conversation(gateway: Gateway, sdk: openai.OpenAI) -> None:
    conversation = sdk.conversations.create()
    first = create(gateway, "fake:tokens=2 a", conversation=conversation.id)
    assert first["conversation"] == {"id": conversation.id}
    second = create(gateway, "b", conversation=conversation.id)
    assert second["usage"]["input_tokens"] == 2 + 2 + 1
    assert len(list(sdk.conversations.items.list(conversation.id))) == 4


def test_incomplete(gateway: Gateway) -> None:
    final = final_of(stream(gateway, "fake:tokens=20", max_output_tokens=16))
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final["completed_at"] is None
    assert final["output"][0]["status"] == "incomplete"
    assert create(gateway, "fake:tokens=20", max_output_tokens=16)["status"] == "incomplete"


def test_logprobs(gateway: Gateway) -> None:
    include = ["message.output_text.logprobs"]
    final = final_of(events := stream(gateway, "fake:tokens=2", include=include))
    logprobs = final["output"][0]["content"][0]["logprobs"]
    assert [one["token"] for one in logprobs] == ["w0 ", "w1"]
    sent = [e["logprobs"] for e in events if e["type"] == "response.output_text.delta"]
    assert [one for each in sent for one in each] == logprobs


def test_a_failure_before_output_is_a_status(gateway: Gateway) -> None:
    for streamed in (True, False):
        answer = gateway.client.post(
            "/v1/responses", json={"model": "fake", "input": "fake:error@0", "stream": streamed}
        )
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"


def test_a_failure_in_the_middle_ends_failed_and_is_kept_so(gateway: Gateway) -> None:
    final = final_of(stream(gateway, "fake:tokens=9 fake:error@3"))
    assert final["error"]["code"] == "server_error"
    assert final["output"][0]["status"] == "incomplete"
    assert gateway.client.get(f"/v1/responses/{final['id']}").json() == final


def test_what_is_not_to_be_kept_is_not(gateway: Gateway) -> None:
    body = create(gateway, "x", store=False)
    assert body["store"] is False
    assert gateway.client.get(f"/v1/responses/{body['id']}").status_code == 404


def test_an_unknown_one(gateway: Gateway) -> None:
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"),
        ("GET", "?stream=true"),
    ):  # fmt: skip
        answer = gateway.client.request(method, f"/v1/responses/resp_no{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "Response with id 'resp_no' not found."


def test_delete(gateway: Gateway, sdk: openai.OpenAI) -> None:
    body = create(gateway, "x")
    answer = gateway.client.delete(f"/v1/responses/{body['id']}")
    assert answer.json() == {"id": body["id"], "object": "response", "deleted": True}
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(body["id"])


def test_input_items_by_the_page(gateway: Gateway, sdk: openai.OpenAI) -> None:
    said = [{"role": "user", "content": f"m{i}"} for i in range(5)]
    body = create(gateway, said)
    path = f"/v1/responses/{body['id']}/input_items"
    page = gateway.client.get(path, params={"limit": 2, "order": "asc"}).json()
    ResponseItemList.model_validate(page, strict=True)
    assert [i["content"][0]["text"] for i in page["data"]] == ["m0", "m1"]
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][1]["id"])
    assert page["has_more"]
    items: Iterator[Any] = iter(sdk.responses.input_items.list(body["id"], limit=2))
    assert [i.content[0].text for i in items] == ["m4", "m3", "m2", "m1", "m0"]
    assert gateway.client.get(path, params={"after": "msg_no"}).status_code == 400


def test_input_tokens(sdk: openai.OpenAI) -> None:
    counted = sdk.responses.input_tokens.count(model="fake", input="one two three")
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 3)
    # Who counts wants to know by how much it is too long.
    assert sdk.responses.input_tokens.count(model="fake", input="w " * 9000).input_tokens == 9000


def test_background(gateway: Gateway) -> None:
    body = create(gateway, "fake:tokens=3", background=True)
    assert (body["status"], body["output"]) == ("queued", [])
    assert until_ended(gateway, body["id"])["status"] == "completed"
    path = f"/v1/responses/{body['id']}"
    events = events_of(gateway.client.get(path, params={"stream": "true"}).text)
    assert [e["type"] for e in events[:3]] == [
        "response.created", "response.queued", "response.in_progress",
    ]  # fmt: skip
    final = final_of(events)
    rest = gateway.client.get(path, params={"stream": "true", "starting_after": 4}).text
    assert events_of(rest, first=5) == events[5:]
    last: dict[str, str | int] = {"stream": "true", "starting_after": len(events) - 1}
    assert gateway.client.get(path, params=last).text == ""
    past: dict[str, str | int] = {"stream": "true", "starting_after": len(events)}
    refused = gateway.client.get(path, params=past)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "starting_after")
    assert gateway.client.post(f"{path}/cancel").json() == final


def test_a_background_stream_outlives_its_reader(gateway: Gateway) -> None:
    asked = {
        "model": "fake", "input": "fake:tokens=20 fake:pace=0.02",
        "background": True, "stream": True,
    }  # fmt: skip
    read = ""
    with gateway.client.stream("POST", "/v1/responses", json=asked) as answer:
        for text in answer.iter_text():
            read += text
            if "output_text.delta" in read:
                break
    whole = [part for part in read.split("\n\n") if part.startswith("event:")][:3]
    response_id = json.loads(whole[0].partition("data: ")[2])["response"]["id"]
    path = f"/v1/responses/{response_id}"
    rest = gateway.client.get(path, params={"stream": "true", "starting_after": 2}).text
    final = final_of(events_of(rest, first=3))
    assert final["output"][0]["content"][0]["text"].endswith("w19")


def test_cancel(gateway: Gateway) -> None:
    body = create(gateway, "fake:tokens=500 fake:pace=0.02", background=True)
    path = f"/v1/responses/{body['id']}"
    with gateway.client.stream("GET", path, params={"stream": "true"}) as following:
        lines = following.iter_lines()
        assert next(lines) == "event: response.created"
        answer = gateway.client.post(f"{path}/cancel")
        assert answer.status_code == 200
        check(answer.json())
        assert answer.json()["status"] == "cancelled"
        assert [line for line in lines if line.startswith("event:")][-1] == "event: error"
    assert gateway.client.post(f"{path}/cancel").json() == answer.json()
    assert gateway.client.get(path).json() == answer.json()


def test_only_background_ones_are_cancelled_or_followed(gateway: Gateway) -> None:
    body = create(gateway, "x")
    path = f"/v1/responses/{body['id']}"
    refused = gateway.client.post(f"{path}/cancel")
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "Cannot cancel a synchronous response."
    assert gateway.client.get(path, params={"stream": "true"}).status_code == 400


def test_one_that_runs_is_no_history_yet_and_may_be_deleted(gateway: Gateway) -> None:
    body = create(gateway, "fake:tokens=500 fake:pace=0.02", background=True)
    answer = gateway.client.post(
        "/v1/responses",
        json={"model": "fake", "input": "x", "previous_response_id": body["id"]},
    )
    assert answer.status_code == 400
    assert gateway.client.delete(f"/v1/responses/{body['id']}").status_code == 200
    assert gateway.client.get(f"/v1/responses/{body['id']}").status_code == 404


def test_truncation(gateway: Gateway) -> None:
    # The fake engine has no tokenizer file: only it finds the prompt too long.
    long = [{"role": "user", "content": "word " * 3000} for _ in range(4)]
    asked: dict[str, Any] = {"model": "fake", "input": long}
    refused = gateway.client.post("/v1/responses", json=asked)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert refused.json()["error"]["param"] == "input"
    body = create(gateway, long, truncation="auto")
    assert body["status"] == "completed"
    assert 3000 <= body["usage"]["input_tokens"] <= 8192


def test_a_client_that_leaves_stops_the_work(gateway: Gateway) -> None:
    asked = {"model": "fake", "input": "fake:tokens=2000 fake:pace=0.05", "stream": True}
    with gateway.client.stream("POST", "/v1/responses", json=asked) as answer:
        first = next(answer.iter_text())
        assert "response.created" in first
    for _ in range(100):
        status = gateway.client.get("/metrics").text
        if 'inhouse_requests_in_flight{model="fake"} 0' in status:
            break
        time.sleep(0.02)
    else:
        raise AssertionError([x for x in status.splitlines() if "in_flight" in x])


def test_wrong_queries(gateway: Gateway) -> None:
    body = create(gateway, "x")
    for params in (
        {"stream": "maybe"}, {"starting_after": "1"}, {"stream": "true", "starting_after": "-1"},
        {"include": "nothing"}, {"other": "1"},
    ):  # fmt: skip
        answer: httpx.Response = gateway.client.get(f"/v1/responses/{body['id']}", params=params)
        assert answer.status_code == 400, params
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
