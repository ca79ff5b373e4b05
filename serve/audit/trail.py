"""The writer of the audit log: one for each server, on its event loop.

A record is in its file when `record` returns, which a killed process does not lose, and reaches the
disk with those beside it. Room on the disk is taken before it is needed.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from serve import __version__
from serve.audit.chain import linked
from serve.audit.checkpoints import Checkpoints
from serve.audit.files import PUBLIC_KEY, write_whole
from serve.audit.key import Signer, new_log_name, signer_at
from serve.audit.repair import find_end, refuse_short
from serve.audit.segments import Segments
from serve.core.clock import Clock
from serve.core.errors import SetupError, StorageUnavailable
from serve.settings.audit import Audit
from serve.store.syncing import Syncer

log = logging.getLogger("inhouse.audit")

CLAIM_BYTES: Final = 4096
"""What the receipt of one request may take: kept free for each that is open."""
RECORD_MAX_BYTES: Final = 96 * 1024
"""A longer record is told of by its digest."""
WAITING_MAX: Final = 1024
"""Records that may wait for room; more are counted as lost, and the log says how many."""
RETRY_S: Final = 1.0
MANY: Final = frozenset({"request", "tool.call"})
"""Kinds of which there are many: they wait for others to go to the disk with them."""
_HEAD_BYTES: Final = 160
"""Of a line, besides what is said: its number, time and chain."""
_NO_ROOM: Final = "this server cannot write its audit log now: the disk that it lies on is full"


class AuditTrail:
    """See `serve.core.audit.Trail`. `folder` is of this server alone."""

    def __init__(self, folder: Path, settings: Audit, clock: Clock) -> None:
        self.settings = settings
        self.failure = ""
        """Why records cannot be written, while they cannot."""
        self.counts: Counter[str] = Counter()
        """Records by kind, in this server's life."""
        self.lost = 0
        """Records that could not even wait, in this server's life."""
        self.receipts: frozenset[str] = frozenset()
        """Requests whose receipts an earlier process wrote last."""
        self.checkpoints = Checkpoints(folder, settings, self)
        self.seq = 0
        """Records that there are."""
        self._folder = folder
        self._clock = clock
        self._segments = Segments(folder, int(settings.segment_mib * 2**20))
        self._signer: Signer | None = None
        self._head = b""
        self._claims = self._untold = 0
        self._began_s = 0.0
        self._waiting: deque[tuple[float, bytes, str]] = deque()
        self._preparing: asyncio.Task[None] | None = None
        self._syncer: Syncer | None = None
        self._position = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Go on where an earlier process ended. Raises SetupError."""
        try:
            cut = await asyncio.to_thread(self._take_up)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._segments.close()
            where = error.filename or self._folder
            raise SetupError(
                f"{where}: the audit log cannot be written: {error.strerror}"
            ) from error
        except SetupError:
            self._segments.close()
            raise
        self._syncer = Syncer("audit", self._segments.sync, self._unsynced)
        self._begin_segment()
        if cut is not None:
            log.warning("the audit log's last record was unfinished, and was cut off", extra=cut)
            self.record("log.repaired", cut)
        self._tasks = {
            asyncio.create_task(self.checkpoints.keep_signing()),
            asyncio.create_task(self._keep_rotating()),
        }

    async def close(self) -> None:
        """Sign and export the end, and let go."""
        if self._syncer is None:
            return
        for task in (*self._tasks, *([self._preparing] if self._preparing else ())):
            task.cancel()
        await asyncio.wait(self._tasks)
        if self._preparing is not None:
            await asyncio.wait({self._preparing})
        self._write_waiting()
        with contextlib.suppress(StorageUnavailable):  # logged where it happened
            await self.checkpoints.sign()
        syncer, self._syncer = self._syncer, None
        await asyncio.to_thread(syncer.close)
        try:
            await asyncio.to_thread(self._segments.close)
        except OSError as error:
            log.error("the audit log's last segment was not closed: %s", error.strerror)

    def state(self) -> tuple[Mapping[str, int], bool, bool, int]:
        """Records by kind, whether they cannot be written, whether checkpoints cannot be
        exported, and how many records are behind no exported (or, without export, signed) one."""
        ahead = self.seq - self.checkpoints.out_to
        return self.counts, bool(self.failure), bool(self.checkpoints.failure), ahead

    def claim(self) -> None:
        """See `serve.core.audit.Trail`."""
        if self._waiting or not self._has_room(CLAIM_BYTES, self._claims + 1):
            raise StorageUnavailable(_NO_ROOM, retry_after_s=RETRY_S)
        self._claims += 1

    def unclaim(self) -> None:
        """See `serve.core.audit.Trail`."""
        self._claims -= 1

    def record(self, kind: str, fields: Mapping[str, Any], *, claimed: bool = False) -> None:
        """See `serve.core.audit.Trail`."""
        if claimed:
            self._claims -= 1
        if self._syncer is None:
            log.error("the audit log is closed: a record is lost", extra={"kind": kind})
            return
        self._write_waiting()
        record = (self._clock.wall_s(), _said(kind, fields), kind)
        if self._waiting or not self._written(*record):
            if len(self._waiting) >= WAITING_MAX:
                self.lost += 1
                self._untold += 1
                return
            self._waiting.append(record)

    async def durable(self) -> None:
        """See `serve.core.audit.Trail`."""
        if self._syncer is None or self._waiting:
            raise StorageUnavailable(_NO_ROOM, retry_after_s=RETRY_S)
        try:
            await self._syncer.reached(self._position)
        except OSError as error:
            raise StorageUnavailable(_NO_ROOM, retry_after_s=RETRY_S) from error

    def head(self) -> tuple[int, bytes]:
        """How many records there are, and the chain of the last."""
        return self.seq, self._head

    @property
    def signer(self) -> Signer:
        assert self._signer is not None
        return self._signer

    def _take_up(self) -> dict[str, Any] | None:
        """Read what is there, and make the first file."""
        self._segments.open()
        end = find_end(self._folder)
        key_file = self.settings.key_file
        path = key_file or self._folder / "key.pem"
        self._signer = signer_at(path, end.name or new_log_name(), make=key_file is None)
        refuse_short(self._folder, end, self._signer.public)
        write_whole(self._folder / PUBLIC_KEY, f"{self._signer.public}\n".encode(), 0o644)
        self.seq, self._head = end.seq, end.head
        self.receipts = frozenset(end.requests)
        self._segments.spare = self._segments.prepare()
        return end.cut

    def _written(self, time_s: float, said: bytes, kind: str) -> bool:
        if not self._has_room(len(said) + _HEAD_BYTES, self._claims):
            return False
        return self._append(time_s, said, kind)

    def _append(self, time_s: float, said: bytes, kind: str) -> bool:
        syncer = self._syncer
        assert syncer is not None
        line, head = linked(self.seq, time_s, said, self._head)
        try:
            self._segments.append(line)
        except OSError as error:
            self._fail(error)
            return False
        self.seq, self._head = self.seq + 1, head
        self.counts[kind] += 1
        self._position = syncer.wrote(soon=kind not in MANY)
        return True

    def _write_waiting(self) -> None:
        while self._waiting:
            if not self._written(*self._waiting[0]):
                return
            self._waiting.popleft()
        if self._untold:
            said = _said("log.lost", {"records": self._untold})
            if self._written(self._clock.wall_s(), said, "log.lost"):
                self._untold = 0

    def _has_room(self, size: int, claims: int) -> bool:
        """Whether this fits beside all claims, in the segment in use or in the next."""
        segments = self._segments
        if claims * CLAIM_BYTES + 2 * RECORD_MAX_BYTES > segments.file_bytes:
            return False
        full = segments.room < size + claims * CLAIM_BYTES
        if full and (segments.spare is None or not self._begin_segment()):
            self._prepare_soon()
            return False
        if segments.spare is None and segments.room < segments.file_bytes // 2:
            self._prepare_soon()
        return segments.room >= size + claims * CLAIM_BYTES

    def _begin_segment(self) -> bool:
        segments = self._segments
        assert segments.spare is not None
        try:
            segments.take(segments.spare, self.seq)
        except OSError as error:
            self._fail(error)
            return False
        segments.spare = None
        if self.seq:
            self.checkpoints.due(self.seq, self._head)
        self._began_s = self._clock.monotonic_s()
        public = self.signer.public
        said = {"log": public.name, "public_key": str(public), "server": __version__}
        return self._append(self._clock.wall_s(), _said("log.segment", said), "log.segment")

    async def _keep_rotating(self) -> None:
        """Begin another segment where one is old, and write what waits."""
        every_s = min(60.0, self.settings.segment_hours * 3600)
        while True:
            await asyncio.sleep(RETRY_S if self._waiting else every_s)
            self._write_waiting()
            age_s = self._clock.monotonic_s() - self._began_s
            if age_s >= self.settings.segment_hours * 3600:
                if self._segments.spare is not None:
                    self._begin_segment()
                self._prepare_soon()

    def _prepare_soon(self) -> None:
        if self._preparing is None and self._syncer is not None and self._segments.spare is None:
            self._preparing = asyncio.create_task(self._prepare())
            self._preparing.add_done_callback(lambda _: setattr(self, "_preparing", None))

    async def _prepare(self) -> None:
        """Make the next file; where that fails, no other attempt is made for a while."""
        try:
            self._segments.spare = await asyncio.to_thread(self._segments.prepare)
        except OSError as error:
            self._fail(error)
            await asyncio.sleep(RETRY_S)
        else:
            self._recovered()
            self._write_waiting()

    def _unsynced(self, error: OSError) -> None:
        self._fail(error)
        # What a disk has failed to write once may be lost: the next file is used.
        if self._segments.spare is not None:
            self._begin_segment()
        self._prepare_soon()

    def _fail(self, error: OSError) -> None:
        if not self.failure:
            log.error("the audit log cannot be written: %s", error.strerror)
        self.failure = f"{self._folder}: {error.strerror}"

    def _recovered(self) -> None:
        if self.failure:
            log.info("the audit log is written again")
        self.failure = ""


def _said(kind: str, fields: Mapping[str, Any]) -> bytes:
    said = orjson.dumps({"kind": kind, **fields}, default=str)
    if len(said) <= RECORD_MAX_BYTES:
        return said
    digest = hashlib.sha256(said).hexdigest()
    return orjson.dumps({"kind": kind, "bytes": len(said), "sha256": digest})
