"""Batches from being handed in to their end, with a stand-in for what answers their lines."""

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from serve.batch import line as line_module
from serve.batch import office as office_module
from serve.batch.course import Workplace
from serve.batch.lanes import Lanes
from serve.batch.office import Asked, Office
from serve.batch.pace import Seen
from serve.batch.ports import Answer
from serve.core.call import Principal
from serve.core.errors import Conflict, StorageUnavailable
from serve.settings.batches import Batches as Settings
from serve.settings.state import State
from serve.state.batches import BatchRecord
from serve.state.storage import Storage
from serve.store.tables import GATEWAYS
from tests import postgres as pg

CHAT = "/v1/chat/completions"
WHO = Principal("k", "t")
SETTINGS = Settings(concurrent_lines=4)

Execute = Callable[[str, Mapping[str, Any], Principal], Awaitable[Answer]]


class Outcomes(list[str]):
    def batch_line(self, outcome: str) -> None:
        self.append(outcome)


class Bench:
    """A storage, and offices over it one after another: each is a server's life."""

    def __init__(self, var_dir: Path, database: str | None = None) -> None:
        self._var_dir = var_dir
        self._state = State(database=database)
        self.storage = Storage(self._state, var_dir)
        self.outcomes = Outcomes()
        self.offices: list[Office] = []

    async def office(self, execute: Execute) -> Office:
        if self.offices:
            await self.storage.close()
            self.storage = Storage(self._state, self._var_dir)
            await self.storage.open()
        storage = self.storage
        lanes = Lanes(SETTINGS, lambda model: Seen(model, 0, math.inf))
        place = Workplace(
            storage.batches, storage.files, storage.folder, execute, lanes, self.outcomes,
            SETTINGS, 10_000,
        )  # fmt: skip
        office = Office(place, [CHAT])
        self.offices.append(office)
        await office.open()
        return office

    async def input(self, count: int, tenant: str = "t") -> str:
        incoming = self.storage.files.begin()
        for number in range(count):
            request = {"custom_id": f"l{number}", "method": "POST", "url": CHAT,
                       "body": {"n": number}}  # fmt: skip
            await incoming.write(json.dumps(request).encode() + b"\n")
        return (await self.storage.files.keep(incoming, tenant, "batch", "in", None)).id

    async def ended(self, batch_id: str) -> BatchRecord:
        async with asyncio.timeout(10):
            while True:
                record = await self.storage.batches.find(batch_id)
                if record.status in ("completed", "failed", "expired", "cancelled"):
                    return record
                await asyncio.sleep(0.01)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while True:
                if await holds():
                    return
                await asyncio.sleep(0.001)

    async def lines(self, file_id: str) -> list[dict[str, Any]]:
        _, path = await self.storage.files.path("t", file_id)
        return [json.loads(one) for one in path.read_bytes().splitlines()]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    one = Bench(tmp_path)
    await one.storage.open()
    yield one
    for office in one.offices:
        await office.close()
    await one.storage.close()


def asked(file_id: str, window_s: float = 60) -> Asked:
    return Asked(file_id, CHAT, "24h", window_s)


async def idle(office: Office) -> bool:
    return not any(office.counts().values())


async def echo(endpoint: str, body: Mapping[str, Any], principal: Principal) -> Answer:
    assert (endpoint, principal) == (CHAT, WHO)
    return Answer(200, "req_1", body)


async def test_lines_are_answered_in_order(bench: Bench) -> None:
    office = await bench.office(echo)
    batch = await office.create(WHO, asked(await bench.input(700)))
    assert office.counts()["validating"] == 1
    done = await bench.ended(batch.id)
    assert (done.status, done.total, done.completed) == ("completed", 700, 700)
    found = await bench.lines(done.body["output_file_id"])
    assert [one["response"]["body"] for one in found] == [{"n": n} for n in range(700)]
    assert done.body["error_file_id"] is None
    assert bench.outcomes.count("completed") == 700
    await bench.until(lambda: idle(office))
    assert await bench.storage.batches.results(batch.id, 0) == []


async def test_no_more_at_once_than_there_are_places(bench: Bench) -> None:
    running = most = 0

    async def slow(_: str, body: Mapping[str, Any], __: Principal) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        return Answer(200, "req", body)

    office = await bench.office(slow)
    two = [await office.create(WHO, asked(await bench.input(40))) for _ in range(2)]
    for batch in two:
        assert (await bench.ended(batch.id)).completed == 40
    assert most == SETTINGS.concurrent_lines


async def test_its_time_ends(bench: Bench) -> None:
    async def stuck(_: str, body: Mapping[str, Any], __: Principal) -> Answer:
        if body["n"] >= 2:
            await asyncio.Event().wait()
        return Answer(200, "req", body)

    office = await bench.office(stuck)
    batch = await office.create(WHO, asked(await bench.input(9), 0.3))
    done = await bench.ended(batch.id)
    assert done.status == "expired"
    assert (done.total, done.completed, done.failed) == (9, 2, 0)
    assert len(await bench.lines(done.body["output_file_id"])) == 2
    unrun = await bench.lines(done.body["error_file_id"])
    assert [one["custom_id"] for one in unrun] == [f"l{n}" for n in range(2, 9)]
    assert {one["error"]["code"] for one in unrun} == {"batch_expired"}
    assert bench.outcomes.count("expired") == 7


async def test_what_may_do_better_later_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "retry_in_s", lambda *_: 0.001)
    tries: dict[int, int] = {}

    async def busy(_: str, body: Mapping[str, Any], __: Principal) -> Answer:
        number = body["n"]
        tries[number] = tries.get(number, 0) + 1
        status = {0: 429, 1: 503, 2: 500}.get(number, 200) if tries[number] < 4 else 200
        return Answer(status, "req", body, 1.0)

    office = await bench.office(busy)
    done = await bench.ended((await office.create(WHO, asked(await bench.input(4)))).id)
    assert (done.completed, done.failed) == (3, 1)
    assert tries == {0: 4, 1: 4, 2: 1, 3: 1}


@pytest.mark.parametrize("stopped_in", ["validating", "in_progress", "finalizing", "cancelling"])
async def test_the_next_server_goes_on_from_anywhere(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    async def half(_: str, body: Mapping[str, Any], __: Principal) -> Answer:
        if body["n"] >= 5 and stopped_in != "finalizing":
            await asyncio.Event().wait()
        return Answer(200, "req first", body)

    def forever(*_: Any) -> Any:
        time.sleep(0.2)
        raise AssertionError("this server has ended")

    with monkeypatch.context() as patch:
        if stopped_in == "validating":
            patch.setattr("serve.batch.validate.check", forever)
        if stopped_in in ("finalizing", "cancelling"):
            patch.setattr("serve.batch.output.sort", forever)
        office = await bench.office(half)
        batch = await office.create(WHO, asked(await bench.input(10)))
        wanted = "in_progress" if stopped_in == "cancelling" else stopped_in

        async def reached() -> bool:
            now = await office.get("t", batch.id)
            return now.status == wanted and (wanted != "in_progress" or now.completed == 5)

        await bench.until(reached)
        if stopped_in == "cancelling":
            await office.cancel("t", batch.id)
        await office.close()
    assert (await office.get("t", batch.id)).status == stopped_in
    await bench.storage.retention.tidy()
    await bench.office(echo)
    done = await bench.ended(batch.id)
    found = await bench.lines(done.body["output_file_id"])
    names = [one["custom_id"] for one in found]
    if stopped_in == "cancelling":
        assert done.status == "cancelled"
        assert names == [f"l{n}" for n in range(5)]
        assert len(await bench.lines(done.body["error_file_id"])) == 5
    else:
        assert done.status == "completed"
        assert names == [f"l{n}" for n in range(10)]
    first = sum(one["response"]["request_id"] == "req first" for one in found)
    assert first == {"validating": 0, "finalizing": 10}.get(stopped_in, 5)


async def test_a_database_that_fails_for_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "SAVE_AGAIN_S", 0.01)
    monkeypatch.setattr(office_module, "AGAIN_S", 0.01)
    batches = bench.storage.batches

    def failing_twice(verb: Any) -> Any:
        left = [None, None]

        async def call(*args: Any, **kwargs: Any) -> Any:
            if left:
                left.pop()
                raise StorageUnavailable("not now")
            return await verb(*args, **kwargs)

        return call

    office = await bench.office(echo)
    for name in ("find", "move", "settle", "to_run", "results"):
        monkeypatch.setattr(batches, name, failing_twice(getattr(batches, name)))
    batch = await office.create(WHO, asked(await bench.input(30)))
    await bench.until(lambda: idle(office))
    monkeypatch.undo()
    done = await batches.find(batch.id)
    assert done.completed == 30
    assert len(await bench.lines(done.body["output_file_id"])) == 30
    kept = {one.name for one in bench.storage.folder.path.iterdir()}
    assert kept == {done.body["input_file_id"], done.body["output_file_id"]}


async def test_a_bug_of_ours_ends_the_batch(bench: Bench) -> None:
    async def broken(*_: Any) -> Answer:
        raise RuntimeError("a bug")

    office = await bench.office(broken)
    done = await bench.ended((await office.create(WHO, asked(await bench.input(3)))).id)
    assert done.status == "failed"
    assert [one["code"] for one in done.body["errors"]["data"]] == ["internal"]


async def test_an_erased_tenant_s_batch_ends_too(bench: Bench) -> None:
    async def slow(_: str, body: Mapping[str, Any], __: Principal) -> Answer:
        await asyncio.sleep(0.05)
        return Answer(200, "req", body)

    office = await bench.office(slow)
    await office.create(WHO, asked(await bench.input(20)))
    await asyncio.sleep(0.1)
    assert await bench.storage.retention.erase("t") == {"files": 1, "batches": 1}
    await bench.until(lambda: idle(office))
    assert list(bench.storage.folder.path.iterdir()) == []


async def test_the_operator_may_cancel_anyone_s(bench: Bench) -> None:
    async def stuck(*_: Any) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    office = await bench.office(stuck)
    batch = await office.create(WHO, asked(await bench.input(3)))
    await office.cancel(None, batch.id)
    assert (await bench.ended(batch.id)).status == "cancelled"
    with pytest.raises(Conflict, match="status 'cancelled'"):
        await office.cancel(None, batch.id)


@pytest.fixture
async def pair(postgres: str, tmp_path: Path) -> AsyncIterator[list[Bench]]:
    """Two gateways on one database, whose files lie in one folder, and a third with its own."""
    url = pg.create(postgres, f"offices_{uuid.uuid4().hex}")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "files").symlink_to(tmp_path / "a" / "files")
    benches = [Bench(tmp_path / name, url) for name in "abc"]
    for one in benches:
        await one.storage.open()
    yield benches
    for one in benches:
        for office in one.offices:
            await office.close()
        await one.storage.close()


async def test_of_several_gateways_one_runs_a_batch(pair: list[Bench]) -> None:
    ran: list[tuple[str, int]] = []
    blocked = asyncio.Event()

    def answers(name: str) -> Execute:
        async def answer(_: str, body: Mapping[str, Any], __: Principal) -> Answer:
            if name == "a" and body["n"] >= 5:
                await blocked.wait()
            ran.append((name, body["n"]))
            return Answer(200, f"req {name}", body)

        return answer

    a, b, _ = pair
    offices = [await one.office(answers(name)) for name, one in zip("abc", pair, strict=True)]
    batch = await offices[0].create(WHO, asked(await a.input(10)))

    async def half() -> bool:
        return (await a.storage.batches.find(batch.id)).completed == 5

    await a.until(half)
    await offices[1].resume()
    assert await idle(offices[1]), "it is another's, who lives"
    await offices[0].close()
    await a.storage.gateways.leave()
    await offices[2].resume()
    assert await idle(offices[2]), "its input is not in this one's folder"
    await offices[1].resume()
    assert not await idle(offices[1])
    done = await b.ended(batch.id)
    assert (done.status, done.completed) == ("completed", 10)
    assert sorted(ran) == [("a", n) for n in range(5)] + [("b", n) for n in range(5, 10)]
    assert len(await b.lines(done.body["output_file_id"])) == 10


async def stuck(_: str, body: Mapping[str, Any], __: Principal) -> Answer:
    await asyncio.Event().wait()
    return Answer(200, "req", body)


async def test_a_gateway_that_was_slow_leaves_what_another_has_taken(pair: list[Bench]) -> None:
    a, b, _ = pair
    offices = [await a.office(stuck), await b.office(echo)]
    batch = await offices[0].create(WHO, asked(await a.input(3)))
    gone = delete(GATEWAYS).where(GATEWAYS.c.id == a.storage.gateways.id)
    await b.storage.database.write(lambda c: c.execute(gone).rowcount)
    await offices[1].resume()
    assert (await b.ended(batch.id)).completed == 3
    await offices[0].resume()
    await a.until(lambda: idle(offices[0]))


async def test_a_batch_that_is_cancelled_elsewhere_ends(pair: list[Bench]) -> None:
    a, b, _ = pair
    offices = [await a.office(stuck), await b.office(stuck)]
    batch = await offices[0].create(WHO, asked(await a.input(3)))

    async def works() -> bool:
        return (await a.storage.batches.find(batch.id)).status == "in_progress"

    await a.until(works)
    await offices[1].cancel("t", batch.id)
    await offices[0].resume()
    assert (await a.ended(batch.id)).status == "cancelled"


async def test_the_batches_of_one_tenant_are_dropped(bench: Bench) -> None:
    office = await bench.office(stuck)
    await office.create(WHO, asked(await bench.input(3)))
    other = await office.create(Principal("k", "u"), asked(await bench.input(3, "u")))
    assert await office.drop("t") == 1
    assert sum(office.counts().values()) == 1
    assert (await bench.storage.batches.find(other.id)).tenant == "u"
    assert await office.drop("nobody") == 0
