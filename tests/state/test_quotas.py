"""What is kept of quotas, on both databases."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from sqlalchemy import select

from serve.core.errors import StorageUnavailable
from serve.core.quota import Anchor, Slot
from serve.state import quotas
from serve.state.quotas import KEPT_SLOTS, QuotaBook
from serve.store.database import Database
from serve.store.tables import QUOTA_CLOCKS, QUOTA_SLOTS

NOW_S = 1_800_000_000.0
SLOT = int(NOW_S // 300)


class Counter:
    def __init__(self) -> None:
        self.changes: dict[Slot, int] = {}
        self.loaded: dict[Slot, int] = {}

    def load(self, rows: Iterable[tuple[Slot, int]]) -> None:
        self.loaded = dict(rows)

    def take_changes(self) -> dict[Slot, int]:
        changes, self.changes = self.changes, {}
        return changes

    def give_back(self, changes: Mapping[Slot, int]) -> None:
        self.changes |= changes


async def test_what_was_counted_is_there_at_the_next_start(database: Database) -> None:
    book, counter = QuotaBook(database), Counter()
    await book.begin(counter, NOW_S)
    assert counter.loaded == {}
    one = Slot("a", "", "requests", SLOT)
    counter.changes = {one: 2, Slot("a", "m", "input_tokens", SLOT - 1): 700}
    await book.end(counter)
    again = Counter()
    await book.begin(again, NOW_S + 10)
    assert again.loaded == {one: 2, Slot("a", "m", "input_tokens", SLOT - 1): 700}
    again.changes = {one: -1}
    await book.end(again)
    last = Counter()
    await book.begin(last, NOW_S + 20)
    await book.end(last)
    assert last.loaded[one] == 1


async def test_it_is_written_while_the_server_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "WRITE_EVERY_S", 0.01)
    book, counter = QuotaBook(database), Counter()
    await book.begin(counter, NOW_S)
    counter.changes = {Slot("a", "", "requests", SLOT): 1}
    async with asyncio.timeout(5):
        while not await rows(database):  # noqa: ASYNC110 - nobody tells of each write
            await asyncio.sleep(0.01)
    await book.end(counter)
    assert [row.amount for row in await rows(database)] == [1]


async def test_what_cannot_be_written_is_not_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    book, counter = QuotaBook(database), Counter()
    await book.begin(counter, NOW_S)
    change = {Slot("a", "", "requests", SLOT): 1}
    counter.changes = dict(change)

    async def full(_: object) -> Any:
        raise StorageUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(database, "write", full)
        await book._write(counter)
    assert counter.changes == change
    assert "the disk is full" in caplog.text
    await book.end(counter)
    assert len(await rows(database)) == 1


async def test_old_slots_go(database: Database) -> None:
    book, counter = QuotaBook(database), Counter()
    await book.begin(counter, NOW_S)
    counter.changes = {Slot("a", "", "requests", SLOT - KEPT_SLOTS - 1): 1}
    await book._write(counter)
    counter.changes = {Slot("a", "", "requests", SLOT): 1}
    await book.end(counter)
    assert [row.slot for row in await rows(database)] == [SLOT]


async def test_the_clock_of_a_start_of_the_machine(database: Database) -> None:
    book = QuotaBook(database)
    first = Anchor(10.0, NOW_S)
    assert await book.anchor("boot 1", first) == first
    # The date was set a day forward since; the kernel's own clock knows better.
    assert await book.anchor("boot 1", Anchor(20.0, NOW_S + 86_410)) == first
    counter = Counter()
    await book.begin(counter, NOW_S)
    counter.changes = {Slot("a", "", "requests", SLOT + 12): 1}
    await book.end(counter)
    # The machine was started with a clock of the day before: quotas go on from the last.
    back = await book.anchor("boot 2", Anchor(5.0, NOW_S - 86_400))
    assert back == Anchor(5.0, (SLOT + 12) * 300.0)
    for number in range(20):
        await book.anchor(f"later {number}", Anchor(1.0, NOW_S + number))
    found = await database.read(
        lambda one: one.execute(select(QUOTA_CLOCKS.c.boot)).scalars().all()
    )
    assert len(found) <= 9
    assert "later 19" in found


async def rows(database: Database) -> Any:
    return await database.read(lambda one: one.execute(select(QUOTA_SLOTS)).all())
