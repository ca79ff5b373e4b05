"""Stored responses and their chains, in both databases."""

from dataclasses import replace
from typing import Any

import pytest

from serve.core.errors import NotFound
from serve.state.records import JSON, Event, ResponseRecord
from serve.state.responses import Responses
from serve.store.database import Database

NOW_S = 1_000_000.0


@pytest.fixture
def responses(database: Database) -> Responses:
    return Responses(database, lambda: NOW_S)


def item(name: str) -> JSON:
    return {"id": f"msg_{name}", "type": "message"}


def record(name: str, previous: str | None = None, **changed: Any) -> ResponseRecord:
    body = {"id": name, "status": "completed", "output": [item(f"{name}_out")], "ü": None}
    made = ResponseRecord(
        id=name,
        tenant="t",
        created_s=NOW_S,
        expires_s=NOW_S + 60,
        body=body,
        items=(item(f"{name}_in"),),
        previous_id=previous,
    )
    return replace(made, **changed)


async def test_what_was_put_is_got(responses: Responses) -> None:
    put = record("a", conversation="conv", background=True, request={"model": "m"})
    await responses.put(put)
    assert await responses.get("t", "a") == put
    done = replace(put, body={**put.body, "status": "failed"}, request=None)
    await responses.put(done)
    assert await responses.get("t", "a") == done


async def test_a_chain_goes_back_to_its_beginning(responses: Responses) -> None:
    for name, previous in (("a", None), ("b", "a"), ("c", "b"), ("fork", "a")):
        await responses.put(record(name, previous))
    names = [one["id"] for one in await responses.history("t", "c")]
    assert names == [f"msg_{one}_{way}" for one in "abc" for way in ("in", "out")]
    assert [one["id"] for one in await responses.history("t", "fork")][-1] == "msg_fork_out"


@pytest.mark.parametrize("broken", ["deleted", "expired", "another tenant's"])
async def test_a_chain_that_lost_a_link_is_none(responses: Responses, broken: str) -> None:
    change: dict[str, Any] = {
        "deleted": {}, "expired": {"expires_s": NOW_S}, "another tenant's": {"tenant": "u"},
    }[broken]  # fmt: skip
    await responses.put(record("a", **change))
    await responses.put(record("b", "a"))
    if broken == "deleted":
        await responses.delete("t", "a")
    with pytest.raises(NotFound, match="'a' not found"):
        await responses.history("t", "b")
    assert (await responses.get("t", "b")).previous_id == "a"


async def test_others_and_expired_ones_do_not_exist(responses: Responses) -> None:
    await responses.put(record("a"))
    await responses.put(record("old", expires_s=NOW_S))
    for tenant, name in (("u", "a"), ("t", "old"), ("t", "none")):
        with pytest.raises(NotFound, match=f"Response with id '{name}' not found"):
            await responses.get(tenant, name)
        with pytest.raises(NotFound):
            await responses.delete(tenant, name)
        with pytest.raises(NotFound):
            await responses.events(tenant, name, -1)
    assert (await responses.get("t", "a")).id == "a"


async def test_events_are_read_from_any_place(responses: Responses) -> None:
    await responses.put(record("a"))
    events = [Event(number, b"data: %d\n\n" % number) for number in range(5)]
    await responses.append_events("a", events[:2])
    await responses.append_events("a", events[2:])
    await responses.append_events("a", [])
    assert await responses.events("t", "a", -1) == events
    assert await responses.events("t", "a", 3) == events[4:]
    assert await responses.events("t", "a", 99) == []


async def test_a_deleted_one_takes_its_events_along(responses: Responses) -> None:
    await responses.put(record("a"))
    await responses.append_events("a", [Event(0, b"x")])
    await responses.delete("t", "a")
    await responses.append_events("a", [Event(1, b"y")])
    await responses.put(record("a"))
    assert await responses.events("t", "a", -1) == []


async def test_what_was_left_unfinished_is_found(responses: Responses) -> None:
    for name, status in (("a", "queued"), ("b", "in_progress"), ("c", "completed")):
        body = {"id": name, "status": status, "output": []}
        await responses.put(record(name, body=body, request={"n": name}))
    left = await responses.unfinished()
    assert {one.id: one.request for one in left} == {"a": {"n": "a"}, "b": {"n": "b"}}
