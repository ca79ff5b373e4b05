"""Stored responses and their chains, in both databases."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert

from serve.core.errors import NotFound
from serve.state.records import JSON, Event, ResponseRecord
from serve.state.responses import Responses
from serve.store.database import Database
from serve.store.tables import GATEWAYS

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


def running(name: str, **changed: Any) -> ResponseRecord:
    """One that is worked on in the background."""
    made = record(name, background=True, request={"model": "m"}, **changed)
    return replace(made, body={**made.body, "status": "in_progress"})


async def test_what_was_put_is_got(responses: Responses) -> None:
    put = running("a", conversation="conv")
    await responses.add(put)
    assert await responses.get("t", "a") == put
    done = replace(put, body={**put.body, "status": "failed"}, request=None)
    assert await responses.put(done)
    assert await responses.get("t", "a") == done


async def test_one_that_was_deleted_while_it_ran_does_not_come_back(responses: Responses) -> None:
    await responses.add(running("a"))
    await responses.delete("t", "a")
    assert not await responses.put(record("a", background=True))
    assert not await responses.append_events("a", [Event(0, b"x")])
    with pytest.raises(NotFound):
        await responses.get("t", "a")


async def test_a_chain_goes_back_to_its_beginning(responses: Responses) -> None:
    for name, previous in (("a", None), ("b", "a"), ("c", "b"), ("fork", "a")):
        await responses.add(record(name, previous))
    names = [one["id"] for one in await responses.history("t", "c")]
    assert names == [f"msg_{one}_{way}" for one in "abc" for way in ("in", "out")]
    assert [one["id"] for one in await responses.history("t", "fork")][-1] == "msg_fork_out"


@pytest.mark.parametrize("broken", ["deleted", "expired", "another tenant's"])
async def test_a_chain_that_lost_a_link_is_none(responses: Responses, broken: str) -> None:
    change: dict[str, Any] = {
        "deleted": {}, "expired": {"expires_s": NOW_S}, "another tenant's": {"tenant": "u"},
    }[broken]  # fmt: skip
    await responses.add(record("a", **change))
    await responses.add(record("b", "a"))
    if broken == "deleted":
        await responses.delete("t", "a")
    with pytest.raises(NotFound, match="'a' not found"):
        await responses.history("t", "b")
    assert (await responses.get("t", "b")).previous_id == "a"


async def test_others_and_expired_ones_do_not_exist(responses: Responses) -> None:
    await responses.add(record("a"))
    await responses.add(record("old", expires_s=NOW_S))
    for tenant, name in (("u", "a"), ("t", "old"), ("t", "none")):
        with pytest.raises(NotFound, match=f"Response with id '{name}' not found"):
            await responses.get(tenant, name)
        with pytest.raises(NotFound):
            await responses.delete(tenant, name)
        with pytest.raises(NotFound):
            await responses.events(tenant, name, -1)
    assert (await responses.get("t", "a")).id == "a"


async def test_events_are_read_from_any_place(responses: Responses) -> None:
    await responses.add(record("a"))
    events = [Event(number, b"data: %d\n\n" % number) for number in range(5)]
    await responses.append_events("a", events[:2])
    await responses.append_events("a", events[2:])
    await responses.append_events("a", [])
    assert await responses.events("t", "a", -1) == events
    assert await responses.events("t", "a", 3) == events[4:]
    assert await responses.events("t", "a", 99) == []


async def test_a_deleted_one_takes_its_events_along(responses: Responses) -> None:
    await responses.add(record("a"))
    await responses.append_events("a", [Event(0, b"x")])
    await responses.delete("t", "a")
    await responses.append_events("a", [Event(1, b"y")])
    await responses.add(record("a"))
    assert await responses.events("t", "a", -1) == []


async def test_what_was_left_unfinished_is_taken_over_once(
    database: Database, responses: Responses
) -> None:
    for name, status in (("a", "queued"), ("b", "in_progress"), ("c", "completed")):
        body = {"id": name, "status": status, "output": []}
        await responses.add(record(name, body=body, request={"n": name}))
    heirs = [Responses(database, lambda: NOW_S, owner=name) for name in ("one", "other")]
    await database.write(lambda c: c.execute(insert(GATEWAYS).values(id="one", beat=0)).rowcount)
    left = await heirs[0].take_over()
    assert {one.id: one.request for one in left} == {"a": {"n": "a"}, "b": {"n": "b"}}
    assert await heirs[1].take_over() == []


async def test_who_was_thought_dead_writes_no_more(
    database: Database, responses: Responses
) -> None:
    await responses.add(running("a"))
    heir = Responses(database, lambda: NOW_S, owner="heir")
    assert len(await heir.take_over()) == 1
    assert not await responses.put(running("a", expires_s=None))
    assert not await responses.append_events("a", [Event(0, b"slow")])
    assert await heir.append_events("a", [Event(0, b"heir")])
    assert await heir.put(record("a", background=True))
    assert [one.frame for one in await heir.events("t", "a", -1)] == [b"heir"]
