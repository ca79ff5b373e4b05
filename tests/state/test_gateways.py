"""Who owns what on one database: exactly one, and another once that one is dead."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve.core.errors import InvalidRequest, SetupError
from serve.state.conversations import Conversations
from serve.state.gateways import LEASE_S, Gateways
from serve.state.responses import Responses
from serve.store.address import address_of
from serve.store.database import Database
from tests import postgres as pg
from tests.state.clock import Clock
from tests.state.test_responses import NOW_S, running


class Node:
    """One gateway, with connections of its own to the database that all share."""

    def __init__(self, url: str, folder: Path, clock: Clock) -> None:
        self.database = Database(address_of(url, folder))
        self.database.open()
        self.gateways = Gateways(self.database, folder, clock)
        owner = self.gateways.id
        self.responses = Responses(self.database, lambda: NOW_S, owner=owner)
        self.conversations = Conversations(
            self.database, lambda _: 60.0, lambda: NOW_S, owner=owner
        )

    async def taken(self) -> list[str]:
        return [one.id for one in await self.responses.take_over()]

    def die(self) -> None:
        """As a kill leaves it: nothing is said in the database."""
        for task in self.gateways._tasks:
            task.cancel()
        if self.gateways._name is not None:
            self.gateways._name.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def nodes(postgres: str, tmp_path: Path, clock: Clock) -> AsyncIterator[list[Node]]:
    url = pg.create(postgres, f"gateways_{tmp_path.name}"[:60])
    made = [Node(url, tmp_path / name, clock) for name in "abc"]
    for one in made:
        await one.gateways.enter()
    yield made
    for one in made:
        one.die()
        one.database.close()


async def test_exactly_one_takes_over_from_a_dead_one(nodes: list[Node], clock: Clock) -> None:
    a, b, c = nodes
    for number in range(20):
        await a.responses.add(running(f"r{number}"))
    assert [await one.taken() for one in nodes] == [[], [], []]
    a.die()
    for one in (b, c):
        await one.gateways.beat()
    clock.now_s += LEASE_S - 1
    for one in (b, c):
        await one.gateways.beat()
    assert [await b.taken(), await c.taken()] == [[], []], "not before its lease is over"
    clock.now_s += 1
    await b.gateways.beat()
    taken = await asyncio.gather(b.taken(), c.taken())
    assert sorted(taken[0] + taken[1]) == sorted(f"r{number}" for number in range(20))
    assert not set(taken[0]) & set(taken[1])
    clock.now_s += LEASE_S
    await b.gateways.beat()
    await c.gateways.beat()
    assert [await b.taken(), await c.taken()] == [[], []]


async def test_one_that_beats_keeps_what_is_its(nodes: list[Node], clock: Clock) -> None:
    a, b, _ = nodes
    await a.responses.add(running("r"))
    for _ in range(5):
        await b.gateways.beat()
        clock.now_s += LEASE_S - 1
        await a.gateways.beat()
    assert await b.taken() == []


async def test_a_slow_one_comes_back_without_what_others_took(
    nodes: list[Node], clock: Clock
) -> None:
    a, b, _ = nodes
    await a.responses.add(running("r"))
    await b.gateways.beat()
    clock.now_s += LEASE_S
    await b.gateways.beat()
    assert await b.taken() == ["r"]
    await a.gateways.beat()
    assert await a.taken() == []
    assert not await a.responses.put(running("r"))
    assert await b.responses.put(running("r"))


async def test_who_stops_leaves_its_work_at_once(nodes: list[Node]) -> None:
    a, b, _ = nodes
    await a.responses.add(running("r"))
    await a.gateways.leave()
    assert await b.taken() == ["r"]


async def test_the_next_in_the_same_folder_need_not_wait(nodes: list[Node], clock: Clock) -> None:
    a, b, _ = nodes
    await a.responses.add(running("r"))
    with pytest.raises(SetupError, match="in use by another server"):
        await Gateways(b.database, a.gateways._folder, clock).enter()
    a.die()
    heir = Gateways(a.database, a.gateways._folder, clock)
    await heir.enter()
    a.responses._owner = heir.id
    assert await a.taken() == ["r"]
    await heir.leave()


async def test_the_turn_of_a_dead_one_ends(nodes: list[Node], clock: Clock) -> None:
    a, b, _ = nodes
    await a.conversations.add("t", "c", {}, [])
    await a.conversations.begin_turn("t", "c", "resp_1")
    with pytest.raises(InvalidRequest):
        await b.conversations.begin_turn("t", "c", "resp_2")
    await a.gateways.leave()
    fresh = Gateways(b.database, b.gateways._folder.parent / "d", clock)
    await fresh.enter()
    await b.conversations.begin_turn("t", "c", "resp_2")
    await fresh.leave()


async def test_a_database_of_one_server_has_one_gateway(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:///{tmp_path}/kept.db"
    first = Node(url, tmp_path, clock)
    await first.gateways.enter()
    await first.responses.add(running("r"))
    await first.conversations.add("t", "c", {}, [])
    await first.conversations.begin_turn("t", "c", "resp_1")
    first.die()
    first.database.close()
    second = Node(url, tmp_path, clock)
    await second.gateways.enter()
    assert await second.taken() == ["r"]
    await second.conversations.begin_turn("t", "c", "resp_2")
    second.die()
    second.database.close()
