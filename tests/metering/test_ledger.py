"""One record for each request, on the disk in time, and never one too many."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve.core.errors import SetupError, StorageUnavailable
from serve.core.ledger import Closed, Spent
from serve.core.usage import Usage
from serve.metering import ledger as module
from serve.metering.journal import Journal
from serve.metering.ledger import DiskLedger
from tests.metering.books import MemoryBooks, SetClock, closed, flat, opened

SMALL = 64 * 1024


@asynccontextmanager
async def running(
    folder: Path, books: MemoryBooks, clock: SetClock | None = None
) -> AsyncIterator[DiskLedger]:
    one = DiskLedger(folder, books, flat, clock or SetClock(), SMALL, keep_gap_s=0.01, retry_s=0.05)
    await one.open()
    try:
        yield one
    finally:
        await one.close()


def tokens(books: MemoryBooks) -> dict[str, tuple[str, int, int]]:
    return {
        one.opened.request_id: (
            one.closed.outcome, one.closed.usage.prompt, one.closed.usage.completion,
        )
        for one in books.records.values()
    }  # fmt: skip


async def until(what: Callable[[], object]) -> None:
    for _ in range(500):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def files_in(folder: Path) -> list[Path]:
    return list(folder.glob("*.journal"))


async def test_each_request_is_recorded_once(tmp_path: Path) -> None:
    books = MemoryBooks()
    async with running(tmp_path, books) as ledger:
        for n in range(300):
            entry = await until_reserved(ledger, f"req_{n}")
            await entry.durable()
            entry.note(Usage(n, 1))
            entry.settle(closed(n, 2 * n))
            entry.settle(closed(9, 9, "error"))
    assert tokens(books) == {f"req_{n}": ("ok", n, 2 * n) for n in range(300)}
    assert books.added == 300
    assert {one.cost_nano for one in books.records.values()} == {3 * n for n in range(300)}
    assert not files_in(tmp_path)


@dataclass
class SlowBooks(MemoryBooks):
    """Takes its time to say that all is on the disk, the first time."""

    asked: int = 0

    async def sync(self) -> None:
        self.asked += 1
        if self.asked == 1:
            await asyncio.sleep(60)


async def test_an_end_in_the_middle_of_tidying_leaves_no_file(tmp_path: Path) -> None:
    books = SlowBooks()
    async with running(tmp_path, books) as ledger:
        n = 0
        while not books.asked:
            (await until_reserved(ledger, f"req_{n}")).settle(closed(1, n))
            n += 1
            if n % 100 == 0:
                await until(lambda: not ledger.pending)
        await until(lambda: not ledger.pending)
        assert len(files_in(tmp_path)) > 1
    assert not files_in(tmp_path)


async def test_a_request_that_runs_twice_has_two_records(tmp_path: Path) -> None:
    books = MemoryBooks()
    async with running(tmp_path, books) as ledger:
        ledger.reserve(opened("req")).settle(closed(0, 0, "refused"))
        ledger.reserve(opened("req")).settle(closed(5, 7))
    found = sorted(one.closed.usage.completion for one in books.records.values())
    assert found == [0, 7]


async def test_what_is_durable_has_been_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def counted(fd: int) -> None:
        real(fd)
        synced.append(fd)

    monkeypatch.setattr(os, "fdatasync", counted)
    async with running(tmp_path, MemoryBooks()) as ledger:
        entries = [ledger.reserve(opened(f"req_{n}")) for n in range(40)]
        assert not synced
        await asyncio.gather(*(entry.durable() for entry in entries))
        assert len(synced) == 1  # one group
        for entry in entries:
            entry.settle(closed(1, 1))


async def test_a_disk_that_fails_to_sync_is_told_before_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = MemoryBooks()
    async with running(tmp_path, books) as ledger:
        first = ledger.reserve(opened("req_1"))

        def broken(fd: int) -> None:
            raise OSError(errno.EIO, "I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            with pytest.raises(StorageUnavailable):
                await first.durable()
        first.settle(closed(0, 0, "storage_unavailable"))
        await until(lambda: ledger.state() == (0, False))
        second = await until_reserved(ledger, "req_2")
        await second.durable()
        second.settle(closed(2, 2))
    assert tokens(books) == {"req_1": ("storage_unavailable", 0, 0), "req_2": ("ok", 2, 2)}


async def until_reserved(ledger: DiskLedger, request_id: str) -> module.Entry:
    async with asyncio.timeout(5):
        while True:
            try:
                return ledger.reserve(opened(request_id))
            except StorageUnavailable:
                await asyncio.sleep(0.02)


async def test_a_database_that_is_away_loses_nothing_and_stops_admission_in_time(
    tmp_path: Path,
) -> None:
    books = MemoryBooks(broken=True)
    served = 0
    async with running(tmp_path, books) as ledger:
        with pytest.raises(StorageUnavailable, match="account"):
            while served < 10_000:
                entry = ledger.reserve(opened(f"req_{served}"))
                entry.note(Usage(1, 1))
                entry.settle(closed(1, served))
                served += 1
                if served % 16 == 0:
                    await asyncio.sleep(0.01)
        assert len(files_in(tmp_path)) <= module.FILES_MAX
        await until(lambda: ledger.failure)
        assert ledger.pending == served > 500
        books.broken = False
        await until(lambda: ledger.state() == (0, False))
        (await until_reserved(ledger, "after")).settle(closed(3, 3))
    assert tokens(books) == {f"req_{n}": ("ok", 1, n) for n in range(served)} | {
        "after": ("ok", 3, 3)
    }


async def test_a_full_disk_stops_admission_before_anything_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = MemoryBooks()
    async with running(tmp_path, books) as ledger:
        held = ledger.reserve(opened("held"))

        def full(journal: Journal) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "prepare", full)
            entries: list[module.Entry] = []
            with pytest.raises(StorageUnavailable, match="disk of its ledger is full"):
                while len(entries) < 10_000:
                    entries.append(ledger.reserve(opened(f"req_{len(entries)}")))
                    await asyncio.sleep(0)
            for n, entry in enumerate(entries):
                await entry.durable()
                entry.note(Usage(1, 1))
                entry.note(Usage(2, 2))
                entry.settle(closed(2, n))
            held.settle(closed(1, 1))
            with pytest.raises(StorageUnavailable):
                for _ in range(1000):
                    ledger.reserve(opened("more")).settle(closed(0, 0))
        await until_reserved(ledger, "after")
    found = tokens(books)
    assert found["held"] == ("ok", 1, 1)
    assert [found[f"req_{n}"] for n in range(len(entries))] == [
        ("ok", 2, n) for n in range(len(entries))
    ]


async def test_what_a_killed_process_left_open_has_crashed_with_the_tokens_known(
    tmp_path: Path,
) -> None:
    books = MemoryBooks(broken=True)
    one = DiskLedger(tmp_path, books, flat, SetClock(), SMALL)
    await one.open()
    one.reserve(opened("silent"))
    noted = one.reserve(opened("noted"))
    noted.note(Usage(5, 1))
    noted.note(Usage(5, 3))
    one.reserve(opened("done")).settle(Closed("ok", "m", "fp", "stop", Usage(5, 9, 4, 1)))
    images = {path.name: path.read_bytes() for path in files_in(tmp_path)}
    await one.close()
    for name, data in images.items():
        (tmp_path / name).write_bytes(data)
    books.broken = False
    for _ in range(2):  # what was taken up once is not counted again
        async with running(tmp_path, books) as again:
            await until(lambda: again.spending.spent("acme", "month") == Spent(22, 22))
            await until(lambda: not again.pending)
        for name, data in images.items():
            (tmp_path / name).write_bytes(data)
    assert tokens(books) == {
        "silent": ("crashed", 0, 0), "noted": ("crashed", 5, 3), "done": ("ok", 5, 9),
    }  # fmt: skip
    (done,) = (one for one in books.records.values() if one.opened.request_id == "done")
    assert done.closed == Closed("ok", "m", "fp", "stop", Usage(5, 9, 4, 1))
    assert done.cost_nano == 14


async def test_an_entry_that_was_cut_short_never_happened(tmp_path: Path) -> None:
    books = MemoryBooks(broken=True)
    one = DiskLedger(tmp_path, books, flat, SetClock(), SMALL)
    await one.open()
    entry = one.reserve(opened("req"))
    entry.note(Usage(4, 1))
    end = one._journal.leaves[-1].end
    entry.settle(closed(4, 4))
    (path,) = files_in(tmp_path)
    whole = path.read_bytes()
    await one.close()
    for cut in range(end, end + 40, 7):
        path.write_bytes(whole[:cut] + bytes(SMALL - cut))
        books = MemoryBooks()
        async with running(tmp_path, books) as again:
            await until(lambda: not again.pending)
        assert tokens(books) == {"req": ("crashed", 4, 1)}


async def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBooks()):
        other = DiskLedger(tmp_path, MemoryBooks(), flat, SetClock(), SMALL)
        with pytest.raises(SetupError, match="another server"):
            await other.open()


async def test_without_room_nothing_begins(tmp_path: Path) -> None:
    closed_ledger = DiskLedger(tmp_path, MemoryBooks(), flat, SetClock(), SMALL)
    with pytest.raises(StorageUnavailable) as refused:
        closed_ledger.reserve(opened("req"))
    assert refused.value.retry_after_s > 0


async def test_spending_counts_what_is_settled_at_once_and_survives(tmp_path: Path) -> None:
    books, clock = MemoryBooks(), SetClock()
    for round_ in (1, 2):
        async with running(tmp_path, books, clock) as ledger:
            entry = ledger.reserve(opened(f"req_{round_}"))
            entry.settle(closed(10, 5))
            assert ledger.spending.spent("acme", "day") == Spent(15 * round_, 15 * round_)
            assert ledger.spending.spent("other", "month") == Spent()
            await until(lambda: not ledger.pending)
            assert ledger.spending.spent("acme", "month") == Spent(15 * round_, 15 * round_)
