"""Ids that are nobody's, another's, of another kind, or of what is gone: 404, nothing changes."""

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve.api.openapi.operations import OPERATIONS
from serve.settings.tenants import Scopes, TenantTerms
from serve.state.directory import Directory
from serve.store.address import address_of
from serve.store.database import Database
from tests.conftest import Gateway
from tests.http.things import things

BODIES: dict[str, Any] = {
    "/v1/chat/completions/{completion_id}": {"metadata": {"a": "b"}},
    "/v1/conversations/{conversation_id}": {"metadata": {"a": "b"}},
    "/v1/conversations/{conversation_id}/items": {"items": [{"role": "user", "content": "x"}]},
    "/v1/uploads/{upload_id}/complete": {"part_ids": ["part_x"]},
}
KEPT = [(method, path) for method, path in OPERATIONS if re.search(r"\{\w+_id\}", path)]
LISTS = ("/v1/chat/completions", "/v1/files", "/v1/batches")
STRANGE = (
    "none", "resp_none", "file-" + "0" * 24, "x" * 300, "%00", "%ff%fe", "..%5c..", "%F0%9F%90%99",
    "'%20or%201=1--", "%20", "-1",
)  # fmt: skip


def ask(client: httpx.Client, method: str, path: str, ids: dict[str, str]) -> httpx.Response:
    """An operation on these ids; those that are not given stay what they were."""
    address = re.sub(r"\{(\w+)\}", lambda match: ids[match[1]], path)
    if path.endswith("/parts"):
        return client.request(method, address, files={"data": b"x"})
    return client.request(method, address, json=BODIES.get(path))


def assert_not_found(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 404, f"{answer.request.method} {answer.request.url} {answer.text}"
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    return error


@pytest.fixture(scope="module")
def own(gateway: Gateway) -> dict[str, str]:
    return things(gateway.client, "fake")


@pytest.fixture(scope="module")
def other(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of another tenant."""
    database = Database(address_of(None, gateway.var_dir))
    database.open()

    async def key() -> str:
        directory = Directory(database, time.time)
        await directory.add_tenant("other", TenantTerms())
        return (await directory.add_key("other", "theirs", Scopes(), None))[1]

    text = asyncio.run(key())
    database.close()
    headers = {"authorization": f"Bearer {text}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
        deadline_s = time.monotonic() + 5
        while client.get("/v1/models").status_code == 401:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        yield client


@pytest.mark.parametrize(("method", "path"), KEPT)
def test_an_id_that_is_nobodys(
    gateway: Gateway, own: dict[str, str], method: str, path: str
) -> None:
    last = re.findall(r"\{(\w+)\}", path)[-1]
    for strange in STRANGE:
        assert_not_found(ask(gateway.client, method, path, {**own, last: strange}))


@pytest.mark.parametrize(("method", "path"), KEPT)
def test_an_id_of_another_kind(
    gateway: Gateway, own: dict[str, str], method: str, path: str
) -> None:
    last = re.findall(r"\{(\w+)\}", path)[-1]
    for kind in own.keys() - {last}:
        assert_not_found(ask(gateway.client, method, path, {**own, last: own[kind]}))


@pytest.mark.parametrize(("method", "path"), KEPT)
def test_an_id_of_another_tenants(
    other: httpx.Client, own: dict[str, str], method: str, path: str
) -> None:
    first = re.findall(r"\{(\w+)\}", path)[0]
    theirs = assert_not_found(ask(other, method, path, own))
    nobodys = assert_not_found(ask(other, method, path, {**own, first: "x" * len(own[first])}))
    # Whether it is another's or nobody's cannot be told.
    assert theirs["message"].replace(own[first], "x" * len(own[first])) == nobodys["message"]
    assert {**theirs, "message": ""} == {**nobodys, "message": ""}


def test_another_tenant_sees_nothing_and_has_changed_nothing(
    gateway: Gateway, other: httpx.Client, own: dict[str, str]
) -> None:
    for path in LISTS:
        assert other.get(path).json()["data"] == []
    for method, path in KEPT:
        if method == "GET":
            assert ask(gateway.client, method, path, own).status_code == 200


def referring(own: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """Requests that name an object in their bodies."""
    asked = {"model": "fake", "input": "x"}
    batch = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return [
        ("/v1/responses", {**asked, "previous_response_id": own["response_id"]}),
        ("/v1/responses", {**asked, "conversation": own["conversation_id"]}),
        (
            "/v1/responses",
            {**asked, "input": [{"type": "item_reference", "id": own["item_id"]}]},
        ),
        ("/v1/responses/input_tokens", {**asked, "previous_response_id": own["response_id"]}),
        ("/v1/responses/compact", {**asked, "previous_response_id": own["response_id"]}),
        ("/v1/batches", {**batch, "input_file_id": own["file_id"]}),
    ]


def test_what_another_tenants_is_cannot_be_referred_to(
    gateway: Gateway, other: httpx.Client, own: dict[str, str]
) -> None:
    for path, body in referring(own):
        answer = other.post(path, json=body)
        assert answer.status_code in (400, 404), f"{path} {body} {answer.text}"
        assert answer.json()["error"]["type"] == "invalid_request_error"
    items = gateway.client.get(f"/v1/conversations/{own['conversation_id']}/items").json()
    assert len(items["data"]) == 1
    assert other.get("/v1/batches").json()["data"] == []


def test_what_is_gone_is_gone_for_every_operation(gateway: Gateway) -> None:
    gone = things(gateway.client, "fake")
    for method, path in KEPT:
        if method == "DELETE" and "item_id" not in path:
            assert ask(gateway.client, method, path, gone).status_code == 200
    for method, path in KEPT:
        if not re.search(r"batch_id|upload_id", path):
            assert_not_found(ask(gateway.client, method, path, gone))


def test_a_parent_that_is_gone_is_no_parent(gateway: Gateway) -> None:
    """Nothing is generated, and nothing is kept of the request."""
    gone = things(gateway.client, "fake")
    assert gateway.client.delete(f"/v1/responses/{gone['response_id']}").status_code == 200
    talk = f"/v1/conversations/{gone['conversation_id']}"
    assert gateway.client.delete(talk).status_code == 200
    for path, body in referring(gone)[:5]:
        for more in ({}, {"stream": True}) if path == "/v1/responses" else ({},):
            answer = gateway.client.post(path, json={**body, **more})
            assert answer.status_code in (400, 404), f"{path} {body} {answer.text}"
            assert answer.headers["content-type"] == "application/json"
            error = answer.json()["error"]
            assert error["type"] == "invalid_request_error"
            assert any(one in error["message"] for one in gone.values())
    background = {**referring(gone)[0][1], "background": True}
    assert gateway.client.post("/v1/responses", json=background).status_code in (400, 404)


def test_a_child_outlives_its_parent(gateway: Gateway) -> None:
    asked = {"model": "fake", "input": "one"}
    parent = gateway.client.post("/v1/responses", json=asked).json()
    second = {**asked, "previous_response_id": parent["id"]}
    child = gateway.client.post("/v1/responses", json=second).json()
    assert gateway.client.delete(f"/v1/responses/{parent['id']}").status_code == 200
    assert gateway.client.get(f"/v1/responses/{child['id']}").json() == child
    grandchild = {**asked, "previous_response_id": child["id"]}
    answer = gateway.client.post("/v1/responses", json=grandchild)
    assert answer.status_code in (200, 400, 404)
    if answer.status_code != 200:
        assert answer.json()["error"]["param"] == "previous_response_id"


def test_what_refers_to_itself(gateway: Gateway, own: dict[str, str]) -> None:
    """An item that is its own reference, two of one id, a schema that is a part of itself."""
    itself = {"type": "item_reference", "id": "msg_self"}
    twice = {"id": "msg_twice", "role": "user", "content": "x"}
    loop = {"$ref": "#"}
    tool = {"type": "function", "name": "f", "parameters": loop, "strict": True}
    for body in (
        {"input": [itself]},
        {"input": [itself, itself]},
        {"input": "x", "tools": [tool]},
        {"input": "x", "previous_response_id": "resp_self", "conversation": "conv_self"},
    ):
        answer = gateway.client.post("/v1/responses", json={"model": "fake", **body})
        assert answer.status_code in (400, 404), answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"
    talk = f"/v1/conversations/{own['conversation_id']}/items"
    answer = gateway.client.post(talk, json={"items": [twice, twice]})
    assert answer.status_code == 400, answer.text
    assert len(gateway.client.get(talk).json()["data"]) == 1
