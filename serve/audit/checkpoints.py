"""Signs checkpoints of a log that grows, exports them, and removes what lies behind old ones.

What fails here stops nobody: it is told, and tried again with the next checkpoint.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from serve.audit.chain import Broken, record_of
from serve.audit.checkpoint import Checkpoint, note_of
from serve.audit.files import (
    CHECKPOINTS,
    NOTE_SUFFIX,
    Lines,
    Stored,
    name_of,
    notes_in,
    segments_in,
    write_whole,
)
from serve.audit.key import Signer
from serve.core.errors import StorageUnavailable
from serve.settings.audit import Audit

log = logging.getLogger("inhouse.audit")

DAY_S: Final = 86_400


class Growing(Protocol):
    """The log that is signed."""

    @property
    def signer(self) -> Signer: ...

    def head(self) -> tuple[int, bytes]:
        """Its records, and the chain of the last."""

    async def durable(self) -> None:
        """Wait until they are on the disk. Raises StorageUnavailable."""

    def record(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Add a record."""


class Checkpoints:
    """The signed checkpoints of one log, in `checkpoints/` of its folder and where they are
    exported to."""

    def __init__(self, folder: Path, settings: Audit, growing: Growing) -> None:
        self.failure = ""
        """Why they cannot be signed or exported, while they cannot."""
        self.out_to = 0
        """Records behind the newest one that is exported, or signed where none is exported."""
        self._folder = folder
        self._settings = settings
        self._growing = growing
        self._signed = -1
        self._due: dict[int, bytes] = {}
        """The ends of segments, which stay signed for good."""
        self._wanted = asyncio.Event()
        self._signing = asyncio.Lock()

    def due(self, size: int, head: bytes) -> None:
        """A segment ends here."""
        self._due[size] = head
        self._wanted.set()

    async def keep_signing(self) -> None:
        """Sign at once, now and then, and at the end of each segment; remove what is old."""
        self._wanted.set()
        while True:
            try:
                async with asyncio.timeout(self._settings.checkpoint_every_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                await self.sign()
                await self.trim()
            except StorageUnavailable as error:
                self._tell(error.message)
            except OSError as error:
                self._tell(f"{error.filename or self._folder}: {error.strerror}")
            except Exception:
                log.exception("checkpoints of the audit log are not kept")
                self._tell("an error of this server's own")

    async def sign(self) -> None:
        """Sign what there is, and export it. Raises StorageUnavailable."""
        async with self._signing:
            due, self._due = self._due, {}
            size, head = self._growing.head()
            wanted = {**due, size: head}
            try:
                await self._growing.durable()
                if size != self._signed or due:
                    await asyncio.to_thread(self._write, wanted, frozenset(due))
                    self._signed = size
                exported = await asyncio.to_thread(self._export)
            except (OSError, StorageUnavailable) as error:
                self._due = {**due, **self._due}
                if isinstance(error, StorageUnavailable):
                    raise
                self._tell(f"{error.filename or self._folder}: {error.strerror}")
                return
            self.out_to = exported
            if self.failure:
                log.info("checkpoints of the audit log are exported again")
            self.failure = ""

    def _write(self, wanted: Mapping[int, bytes], ends: frozenset[int]) -> None:
        signer = self._growing.signer
        older = [path for path, size in notes_in(self._folder) if size < max(wanted)]
        for size, head in wanted.items():
            note = note_of(Checkpoint(signer.public.name, size, head), signer)
            write_whole(self._folder / CHECKPOINTS / name_of(size, NOTE_SUFFIX), note, 0o644)
        # Between the ends of segments only the newest is of use here.
        kept = {one.first for one in segments_in(self._folder)} | ends
        where = self._settings.export_dir
        for path in older:
            exported = where is None or self._exported(path, where).exists()
            if int(path.stem) not in kept and exported:
                path.unlink()

    def _export(self) -> int:
        """Copy what is not there yet; how far it reaches."""
        where = self._settings.export_dir
        notes = notes_in(self._folder)
        for path, size in notes if where is not None else ():
            assert where is not None
            copy = self._exported(path, where)
            if size > self.out_to and not copy.exists():
                if not where.is_dir():
                    # A share that is not mounted must not be taken for an empty one.
                    raise FileNotFoundError(2, os.strerror(2), str(where))
                write_whole(copy, path.read_bytes(), 0o644)
        return notes[-1][1] if notes else 0

    def _exported(self, path: Path, where: Path) -> Path:
        return where / f"{self._growing.signer.public.name}-{path.name}"

    async def trim(self) -> None:
        """Remove segments that ended long ago, behind a checkpoint that is out.

        Raises OSError and StorageUnavailable.
        """
        days = self._settings.keep_days
        if days is None:
            return
        async with self._signing:
            first = await asyncio.to_thread(self._old_to, time.time() - days * DAY_S)
            if first is None:
                return
            self._growing.record("log.trimmed", {"first": first, "keep_days": days})
            await self._growing.durable()
            removed = await asyncio.to_thread(_remove, self._folder, first)
        log.info("old segments of the audit log were removed", extra={"segments": removed})

    def _old_to(self, before_s: float) -> int | None:
        """The first record to be kept, where there are some before it that need not be."""
        signed = {size for _, size in notes_in(self._folder) if size <= self.out_to}
        segments = segments_in(self._folder)
        old = [
            one.first
            for one in segments[1:]
            if one.first in signed and (began := began_s(one)) is not None and began < before_s
        ]
        return max(old, default=None)

    def _tell(self, why: str) -> None:
        if not self.failure:
            log.error("checkpoints of the audit log are not kept: %s", why)
        self.failure = why


def began_s(segment: Stored) -> float | None:
    """Unix time of a segment's first record; None where it cannot be read."""
    for line in Lines(segment.path):
        try:
            return float(record_of(line, None).fields["time"])
        except (Broken, KeyError, TypeError, ValueError):
            return None
    return None


def _remove(folder: Path, first: int) -> int:
    """Remove what lies wholly before a record, the oldest first; how many segments."""
    gone = [one for one in segments_in(folder) if one.first < first]
    for path in _behind(folder, gone, first):
        path.unlink()
    return len(gone)


def _behind(folder: Path, gone: list[Stored], first: int) -> Iterator[Path]:
    for one in gone:
        yield one.path
    for path, size in notes_in(folder):
        if size < first:
            yield path
