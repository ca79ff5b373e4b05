"""The ledger: a record for every admitted request, whatever becomes of it.

A request's way through it: `reserve` writes its beginning to the journal, `note` what it has used
so far, `settle` its end; each is in the file when it returns. The journal reaches the disk in
groups, the records reach the database in groups, and a file of the journal goes after that.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from pathlib import Path
from typing import Final

from serve.core.clock import Clock
from serve.core.errors import SetupError, StorageUnavailable
from serve.core.ledger import Closed, Opened, Settled
from serve.core.usage import Usage
from serve.metering.books import Books
from serve.metering.journal import CLAIM_BYTES, FILE_BYTES, Journal, Leaf
from serve.metering.recovery import Price, left_in, noted, reserved, settled
from serve.metering.spending import SpendingByDay
from serve.store.syncing import Syncer

log = logging.getLogger("inhouse.ledger")

FILES_MAX: Final = 8
"""Files that may wait for the database; with all of them full, nothing is admitted."""
GROUP_MAX: Final = 512
KEEP_GAP_S: Final = 0.5
"""How long records wait for others to go to the database with them."""
RETRY_S: Final = 1.0
LEARN_S: Final = 15.0
_NOTE_BYTES: Final = 128
_NO_ROOM: Final = (
    "this server cannot account for another request now: the disk of its ledger is full, or its "
    "database takes nothing"
)


class DiskLedger:
    """See `serve.core.ledger.Ledger`. `folder` holds its journal, of this server alone."""

    def __init__(
        self,
        folder: Path,
        books: Books,
        price: Price,
        clock: Clock,
        file_bytes: int = FILE_BYTES,
        *,
        keep_gap_s: float = KEEP_GAP_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self.spending = SpendingByDay(clock)
        self.price = price
        """What tokens cost; may be replaced while it runs."""
        self.failure = ""
        """Why records do not get where they belong, while they do not."""
        self.left_open: list[Opened] = []
        """Requests that an earlier process had left open: they crashed with it."""
        self._journal = Journal(folder, file_bytes)
        self._books = books
        self._keep_gap_s = keep_gap_s
        self._retry_s = retry_s
        self._runs = itertools.count(int.from_bytes(os.urandom(5)) << 20)
        self._open = self._taken_up = 0
        self._pending: list[tuple[Settled, list[Leaf]]] = []
        self._more = asyncio.Event()
        self._counting = asyncio.Lock()
        """Held where the database's sums and those kept here change together."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._preparing: asyncio.Task[None] | None = None
        self._syncer: Syncer | None = None

    @property
    def pending(self) -> int:
        """Records that are in the journal and not yet in the database."""
        return len(self._pending)

    def state(self) -> tuple[int, bool]:
        """`pending`, and whether something fails."""
        return self.pending, bool(self.failure)

    async def open(self) -> None:
        """Take up what an earlier process left, and begin. Raises SetupError."""
        folder = self._journal.folder
        try:
            await asyncio.to_thread(self._take_up)
        except OSError as error:
            self._journal.close()
            raise SetupError(f"{folder}: the ledger cannot be written: {error.strerror}") from error
        await self._learn()
        self._syncer = Syncer("ledger", self._journal.sync, self._unsynced)
        self._tasks = {
            asyncio.create_task(self._keep_adding()),
            asyncio.create_task(self._keep_learning()),
        }
        if self._pending:
            self._more.set()

    async def close(self) -> None:
        """Put all there is into the database, as far as it takes it, and end."""
        if self._syncer is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if self._preparing is not None:
            await asyncio.wait({self._preparing})
        try:
            while self._pending:
                await self._add()
            # The task that was cancelled may have come no further than this.
            await self._drop_done()
        except StorageUnavailable as error:
            log.warning("%d records wait in the journal: %s", self.pending, error.message)
        await asyncio.to_thread(self._syncer.close)
        self._syncer = None
        await asyncio.to_thread(self._end)

    def reserve(self, opened: Opened) -> "Entry":
        """See `serve.core.ledger.Ledger`."""
        run = next(self._runs)
        syncer = self._syncer
        if syncer is None or not self._has_room(CLAIM_BYTES, self._open + 1):
            raise StorageUnavailable(_NO_ROOM, retry_after_s=self._retry_s)
        try:
            leaf = self._journal.append(reserved(run, opened))
        except OSError as error:
            raise StorageUnavailable(_NO_ROOM, retry_after_s=self._retry_s) from error
        self._open += 1
        leaf.open += 1
        return Entry(self, run, opened, leaf, syncer.wrote(soon=True))

    def note(self, entry: "Entry", usage: Usage) -> None:
        """Write down what an open request has used."""
        if not self._has_room(_NOTE_BYTES, self._open):
            # Each has room for its end and for one note.
            if entry.claimed:
                return
            entry.claimed = True
        with contextlib.suppress(OSError):  # only a crash would have asked for it
            entry.written_in(self._journal.append(noted(entry.run, usage)))

    def settle(self, entry: "Entry", closed: Closed) -> None:
        """Write down a request's end."""
        cost_nano = self.price(closed.model, entry.opened.received_s, closed.usage)
        try:
            entry.written_in(self._journal.append(settled(entry.run, closed, cost_nano)))
        except OSError:
            # The record itself is still here, and on its way to the database.
            log.exception("the ledger's journal cannot be written")
        self._open -= 1
        if self._syncer is not None:
            self._syncer.wrote(soon=False)
        record = Settled(entry.run, entry.opened, closed, cost_nano)
        self._pending.append((record, entry.leaves))
        self.spending.settle(record)
        self._more.set()

    async def durable(self, position: int) -> None:
        """Wait until the journal is on the disk as far as this."""
        if self._syncer is None:
            raise StorageUnavailable(_NO_ROOM, retry_after_s=self._retry_s)
        try:
            await self._syncer.reached(position)
        except OSError as error:
            raise StorageUnavailable(_NO_ROOM, retry_after_s=self._retry_s) from error

    def _has_room(self, size: int, claims: int) -> bool:
        """Whether this fits beside all claims, in the file in use or in the next."""
        journal = self._journal
        if (claims + 1) * CLAIM_BYTES >= journal.file_bytes:
            return False
        if journal.leaf is None or journal.room(claims) < size:
            if journal.spare is None:
                self._prepare_soon()
                return False
            try:
                journal.take(journal.spare)
            except OSError:
                return False
            journal.spare = None
        if journal.spare is None and journal.room(claims) < journal.file_bytes // 2:
            self._prepare_soon()
        return journal.room(claims) >= size

    def _prepare_soon(self) -> None:
        if self._preparing is None and self._syncer is not None:
            self._preparing = asyncio.create_task(self._prepare())
            self._preparing.add_done_callback(lambda _: setattr(self, "_preparing", None))

    async def _prepare(self) -> None:
        """Make the next file; where that fails, no other attempt is made for a while."""
        if len(self._journal.leaves) >= FILES_MAX:
            await asyncio.sleep(self._retry_s)
            return
        try:
            self._journal.spare = await asyncio.to_thread(self._journal.prepare)
        except OSError as error:
            self._fail(f"{self._journal.folder}: {error.strerror}")
            await asyncio.sleep(self._retry_s)
        else:
            self._recovered()

    def _unsynced(self, error: OSError) -> None:
        self._fail(f"{self._journal.folder}: {error.strerror}")
        # What a disk has failed to write once may be lost: the next file is used.
        if (leaf := self._journal.leaf) is not None:
            leaf.full = True

    async def _keep_adding(self) -> None:
        while True:
            await self._more.wait()
            # Alone each would cost a transaction.
            await asyncio.sleep(self._keep_gap_s)
            self._more.clear()
            try:
                while self._pending:
                    await self._add()
            except StorageUnavailable as error:
                self._fail(error.message)
                self._more.set()
                await asyncio.sleep(self._retry_s)

    async def _add(self) -> None:
        group = self._pending[:GROUP_MAX]
        records = [record for record, _ in group]
        async with self._counting:
            await self._books.add(records)
            del self._pending[: len(group)]
            for leaf in itertools.chain.from_iterable(leaves for _, leaves in group):
                leaf.open -= 1
            # The database may have had some of these: what it says is spent is asked again.
            old = min(self._taken_up, len(group))
            self._taken_up -= old
            self.spending.keep(records[old:])
        if old:
            await self._learn()
        self._recovered()
        await self._drop_done()

    async def _drop_done(self) -> None:
        """Remove the files of which the database has everything."""
        done = [leaf for leaf in self._journal.leaves if leaf.full and not leaf.open]
        if done:
            await self._books.sync()
            for leaf in done:
                await asyncio.to_thread(self._journal.drop, leaf)

    async def _keep_learning(self) -> None:
        """Other servers may use the same database."""
        while True:
            await asyncio.sleep(LEARN_S)
            await self._learn()

    async def _learn(self) -> None:
        with contextlib.suppress(StorageUnavailable):  # it is asked again
            async with self._counting:
                self.spending.learn(await self._books.totals(self.spending.since_day()))

    def _take_up(self) -> None:
        """Read what is there, and make the first file."""
        journal = self._journal
        self._pending = left_in(journal.open(), self.price)
        self._taken_up = len(self._pending)
        for _, leaves in self._pending:
            for leaf in leaves:
                leaf.open += 1
        self.left_open = [one.opened for one, _ in self._pending if one.closed.outcome == "crashed"]
        for leaf in [one for one in journal.leaves if not one.open]:
            journal.drop(leaf)
        journal.take(journal.prepare())

    def _end(self) -> None:
        leaf = self._journal.leaf
        if leaf is not None and not leaf.open:
            self._journal.drop(leaf)
        self._journal.close()

    def _fail(self, reason: str) -> None:
        if not self.failure:
            log.error("the ledger falls behind: %s", reason)
        self.failure = reason

    def _recovered(self) -> None:
        if self.failure:
            log.info("the ledger catches up")
        self.failure = ""


class Entry:
    """One request in the ledger. See `serve.core.ledger.Reservation`."""

    __slots__ = ("_ledger", "_position", "_settled", "claimed", "leaves", "opened", "run")

    def __init__(
        self, ledger: DiskLedger, run: int, opened: Opened, leaf: Leaf, position: int
    ) -> None:
        self._ledger = ledger
        self._position = position
        self._settled = False
        self.run = run
        self.opened = opened
        self.leaves = [leaf]
        self.claimed = False

    async def durable(self) -> None:
        await self._ledger.durable(self._position)

    def note(self, usage: Usage) -> None:
        if not self._settled:
            self._ledger.note(self, usage)

    def settle(self, closed: Closed) -> None:
        if not self._settled:
            self._settled = True
            self._ledger.settle(self, closed)

    def written_in(self, leaf: Leaf) -> None:
        """It has an entry in this file."""
        if leaf not in self.leaves:
            self.leaves.append(leaf)
            leaf.open += 1
