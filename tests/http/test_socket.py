"""The WebSocket mode of `/v1/responses`, with the openai SDK and a bare client."""

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.resources.responses.responses import ResponsesConnection
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Gateway

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


@pytest.fixture
def sdk(gateway: Gateway) -> Iterator[ResponsesConnection]:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)
    with client.responses.connect() as connection:
        yield connection


@pytest.fixture
def socket(gateway: Gateway) -> Iterator[ClientConnection]:
    with connect(_url(gateway), additional_headers=_headers(gateway), max_size=None) as one:
        yield one


def _url(gateway: Gateway) -> str:
    return gateway.url.replace("http:", "ws:") + "/v1/responses"


def _headers(gateway: Gateway) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.key}"}


def ask(socket: ClientConnection, text: Any, **fields: Any) -> None:
    body = {"type": "response.create", "model": "fake", "input": text, **fields}
    socket.send(json.dumps(body))


def events(socket: ClientConnection) -> list[dict[str, Any]]:
    """The events of one turn, each of them valid."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] not in ENDS:
        text = socket.recv(timeout=30)
        found.append(json.loads(text))
        if "status" not in found[-1]:
            EVENT.validate_json(text, strict=True)
            assert found[-1]["sequence_number"] == len(found) - 1
    return found


def answer(socket: ClientConnection, text: Any, **fields: Any) -> dict[str, Any]:
    ask(socket, text, **fields)
    end = events(socket)[-1]
    assert end["type"] == "response.completed", end
    response: dict[str, Any] = end["response"]
    return response


def error(socket: ClientConnection) -> dict[str, Any]:
    end = events(socket)
    assert [one["type"] for one in end] == ["error"], end
    said: dict[str, Any] = end[0]
    return said


# The SDK opens connections in a way that the newest websockets warns of.
@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")
def test_the_sdk_holds_a_conversation(sdk: ResponsesConnection) -> None:
    previous = None
    for turn in range(3):
        sdk.response.create(model="fake", input=f"turn {turn}", previous_response_id=previous)
        text = ""
        for event in sdk:
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.completed":
                assert event.response.output_text == text != ""
                assert event.response.previous_response_id == previous
                previous = event.response.id
                break


def test_an_unstored_turn_is_gone_on_from(gateway: Gateway, socket: ClientConnection) -> None:
    first = answer(socket, "one two three", store=False)
    second = answer(socket, "four", store=False, previous_response_id=first["id"])
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert gateway.client.get(f"/v1/responses/{second['id']}").status_code == 404
    ask(socket, "kept?", store=True, previous_response_id=second["id"])
    assert error(socket)["error"]["param"] == "store"


def test_a_stored_turn_is_gone_on_from_elsewhere(
    gateway: Gateway, socket: ClientConnection
) -> None:
    first = answer(socket, "one two three")
    assert gateway.client.get(f"/v1/responses/{first['id']}").json() == first
    with connect(_url(gateway), additional_headers=_headers(gateway)) as other:
        second = answer(other, "four", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]


def test_another_connection_does_not_know_an_unstored_one(
    gateway: Gateway, socket: ClientConnection
) -> None:
    first = answer(socket, "one", store=False)
    with connect(_url(gateway), additional_headers=_headers(gateway)) as other:
        ask(other, "two", store=False, previous_response_id=first["id"])
        said = error(other)
    assert (said["status"], said["error"]["code"]) == (400, "previous_response_not_found")


def test_a_failed_continuation_is_forgotten(socket: ClientConnection) -> None:
    first = answer(socket, "one", store=False)
    ask(socket, "two", store=False, previous_response_id=first["id"], top_p=7)
    assert error(socket)["error"]["param"] == "top_p", "refused before it was a continuation"
    ask(socket, "word " * 9000, store=False, previous_response_id=first["id"])
    assert error(socket)["error"]["code"] == "context_length_exceeded"
    ask(socket, "two", store=False, previous_response_id=first["id"])
    assert error(socket)["error"]["code"] == "previous_response_not_found"
    assert answer(socket, "a new beginning", store=False)["status"] == "completed"


def test_a_warm_up_is_gone_on_from(socket: ClientConnection) -> None:
    warm = answer(socket, "the long beginning", store=False, generate=False)
    assert (warm["output"], warm["usage"]["total_tokens"]) == ([], 0)
    alone = answer(socket, "go", store=False)
    after = answer(socket, "go", store=False, generate=True)
    assert after["usage"]["input_tokens"] == alone["usage"]["input_tokens"]
    warm = answer(socket, "the long beginning", store=False, generate=False)
    after = answer(socket, "go", store=False, previous_response_id=warm["id"])
    assert after["usage"]["input_tokens"] > alone["usage"]["input_tokens"]


def test_turns_sent_at_once_are_taken_in_order(socket: ClientConnection) -> None:
    for number in range(4):
        ask(socket, f"turn {number}", metadata={"number": str(number)})
    ends = [events(socket)[-1]["response"]["metadata"]["number"] for _ in range(4)]
    assert ends == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("{", None, "invalid_json"),
        ("[]", "message", None),
        ('{"type": "response.steer"}', "type", None),
        ('{"type": "response.create"}', "model", None),
        ('{"type": "response.create", "model": "none", "input": "x"}', "model", "model_not_found"),
        ('{"type": "response.create", "model": "fake", "input": "x", "background": true}',
         "background", None),
        ('{"type": "response.create", "model": "fake", "input": "x", "generate": 1}',
         "generate", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_and_the_connection_stays(
    socket: ClientConnection, message: str, param: str | None, code: str | None
) -> None:
    socket.send(message)
    said = error(socket)
    assert said["status"] in (400, 404)
    assert said["error"]["param"] == param
    assert code is None or said["error"]["code"] == code
    assert answer(socket, "still here")["status"] == "completed"


def test_who_leaves_in_mid_answer_stops_it(gateway: Gateway, socket: ClientConnection) -> None:
    ask(socket, "fake:tokens=500 fake:pace=0.02", store=False)
    while json.loads(socket.recv(timeout=30))["type"] != "response.output_text.delta":
        pass
    socket.close()
    deadline_s = time.monotonic() + 10
    line = 'inhouse_requests_total{endpoint="responses",model="fake",outcome="cancelled"}'
    while line not in gateway.client.get("/metrics").text and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert line in gateway.client.get("/metrics").text


def test_nobody_gets_in_without_a_key(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(_url(gateway), additional_headers={"Authorization": "Bearer sk-wrong"})
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == "invalid_api_key"


def test_there_is_no_other_socket(gateway: Gateway) -> None:
    url = _url(gateway) + "/none"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, additional_headers=_headers(gateway))
    assert refused.value.response.status_code == 403


def test_a_message_beyond_the_body_limit_ends_the_connection(socket: ClientConnection) -> None:
    ask(socket, "x" * (9 * 2**20))
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
