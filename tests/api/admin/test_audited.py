"""An order that cannot be written down is not carried out; one that is, is there with its end."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from serve.api import errors
from serve.api.admin.audited import Audited
from serve.api.admin.bodies import BODY_MAX_BYTES
from serve.core.errors import StorageUnavailable


class Trail:
    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.full = False

    def claim(self) -> None:
        raise AssertionError("orders claim nothing")

    unclaim = claim

    def record(self, kind: str, fields: Mapping[str, Any], *, claimed: bool = False) -> None:
        assert not claimed
        self.records.append((kind, dict(fields)))

    async def durable(self) -> None:
        if self.full:
            raise StorageUnavailable("the disk is full")


class Rig:
    def __init__(self) -> None:
        self.trail = Trail()
        self.done: list[bytes] = []
        app = FastAPI()
        errors.install(app)

        @app.post("/order")
        async def order(request: Request) -> dict[str, Any]:
            self.done.append(await request.body())
            return {"id": "x", "key": "sk-secret", "data": [{"id": "y"}]}

        @app.get("/order")
        async def look() -> dict[str, Any]:
            return {}

        door = errors.Guard(Audited(app, self.trail, "socket"))
        transport = httpx.ASGITransport(door)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_an_order_and_its_end(rig: Rig) -> None:
    assert (await rig.client.post("/order?a=b", json={"c": 1})).status_code == 200
    (asked, order), (told, ended) = rig.trail.records
    assert (asked, told) == ("admin.order", "admin.ended")
    assert (order["query"], order["body"], order["key"]) == ("a=b", {"c": 1}, "operator")
    assert (ended["status"], ended["id"], ended["ids"]) == (200, "x", ["y"])
    assert "sk-secret" not in str(rig.trail.records)
    assert rig.done == [b'{"c":1}']


async def test_what_cannot_be_written_down_is_not_done(rig: Rig) -> None:
    rig.trail.full = True
    answer = await rig.client.post("/order", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    assert rig.done == []


async def test_looking_is_no_order(rig: Rig) -> None:
    assert (await rig.client.get("/order")).status_code == 200
    assert rig.trail.records == []


@pytest.mark.parametrize("body", [b"no json", b"x" * (3 * BODY_MAX_BYTES)])
async def test_a_body_that_is_none_is_handed_on_and_told_by_its_size(body: bytes, rig: Rig) -> None:
    async def parts() -> Any:
        for at in range(0, len(body), 10_000):
            yield body[at : at + 10_000]

    await rig.client.post("/order", content=parts())
    assert rig.done == [body]
    assert rig.trail.records[0][1]["body"].keys() == {"bytes"}


async def test_an_unknown_address_is_an_order_that_came_to_nothing(rig: Rig) -> None:
    assert (await rig.client.delete("/nowhere")).status_code == 404
    assert rig.trail.records[1][1]["status"] == 404
