"""The files that records are written to, one after the other.

A segment that is full is cut to its length once all of it is on the disk, and not touched again.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from serve.audit.files import name_of, sync_folder
from serve.store.prefilled import locked, prefilled

_FRESH: Final = "next.fresh"


@dataclass(eq=False, slots=True)
class Segment:
    """One that is open. `end` is its length without the zeros."""

    path: Path
    fd: int
    end: int = 0
    synced: int = -1


class Segments:
    """The files in one folder, for one process at a time.

    `open`, `close`, `prepare` and `sync` wait for the disk, and the last two may run in threads;
    the rest is quick, and for one thread.
    """

    def __init__(self, folder: Path, file_bytes: int) -> None:
        self.folder = folder
        self.file_bytes = file_bytes
        self.spare: Segment | None = None
        self._open: list[Segment] = []
        """The last is written to; those before it are full, and wait for the disk."""
        self._lock: IO[bytes] | None = None
        self._syncing = threading.Lock()

    def open(self) -> None:
        """Take the folder. Raises OSError, and SetupError where another process has it."""
        self._lock = locked(self.folder)
        (self.folder / _FRESH).unlink(missing_ok=True)

    def close(self) -> None:
        """Cut the last segment to its length, and let go. Raises OSError."""
        try:
            while self._open:
                _finish(self._open.pop(0))
            if self.spare is not None:
                os.close(self.spare.fd)
                self.spare.path.unlink(missing_ok=True)
                self.spare = None
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def prepare(self) -> Segment:
        """A new file, all of its bytes on the disk. Raises OSError."""
        path = self.folder / _FRESH
        return Segment(path, prefilled(path, self.file_bytes))

    def take(self, segment: Segment, first: int) -> None:
        """Write to this one, which was prepared, from the record `first` on. Raises OSError."""
        path = self.folder / name_of(first)
        segment.path.rename(path)
        segment.path = path
        self._open.append(segment)

    @property
    def room(self) -> int:
        """Bytes left in the segment that is written to."""
        return self.file_bytes - self._open[-1].end if self._open else 0

    def append(self, line: bytes) -> None:
        """Write a line to the last segment. Raises OSError; then nothing has been added."""
        segment = self._open[-1]
        if os.pwrite(segment.fd, line, segment.end) != len(line):
            raise OSError("a segment of the audit log was cut short")
        segment.end += len(line)

    def sync(self) -> None:
        """All that has been written is on the disk when this returns. Raises OSError."""
        with self._syncing:
            *full, last = tuple(self._open) or (None,)
            for one in full:
                if one is not None:
                    self._open.remove(one)
                    _finish(one)
            if last is not None and last.synced != (end := last.end):
                os.fdatasync(last.fd)
                if last.synced < 0:
                    sync_folder(self.folder)
                last.synced = end


def _finish(segment: Segment) -> None:
    """Cut it to its length, on the disk; it is closed even where that fails. Raises OSError."""
    try:
        os.ftruncate(segment.fd, segment.end)
        os.fsync(segment.fd)
    finally:
        os.close(segment.fd)
