"""The ledger's journal: what happens to requests, on the disk before it can be lost.

A few files of equal size, filled with zeros before they are used, so that a disk that fills up
later takes no space away from what has been begun. An entry is written when it happens, which a
killed process does not lose, and reaches the disk with those beside it, which a power cut does not
lose either. A file goes once the database has all that its entries tell of.

An entry is its length, its checksum and JSON; one that was cut short ends its file.
"""

import contextlib
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson

from serve.store.prefilled import locked, prefilled

MAGIC: Final = b"inhouse ledger 1"
FILE_BYTES: Final = 8 * 2**20
CLAIM_BYTES: Final = 1024
"""What one request may still write, besides its beginning: kept free for each that is open."""
_HEAD: Final = struct.Struct("<II")
_SUFFIX: Final = ".journal"
_FRESH: Final = ".fresh"


@dataclass(eq=False, slots=True)
class Leaf:
    """One file. `open` counts the requests that have entries in it and are not in the database."""

    path: Path
    number: int
    fd: int = -1
    end: int = len(MAGIC)
    synced: int = 0
    open: int = 0
    full: bool = False


class Journal:
    """The files in one folder, for one process at a time.

    `open`, `close`, `prepare`, `sync` and `drop` wait for the disk, and the last three may run in
    threads; everything else is quick, and for one thread.
    """

    def __init__(self, folder: Path, file_bytes: int = FILE_BYTES) -> None:
        self.folder = folder
        self.file_bytes = file_bytes
        self.leaves: list[Leaf] = []
        """Oldest first; the last is written to, by open requests even when it is full."""
        self.spare: Leaf | None = None
        self._number = 0
        self._lock: IO[bytes] | None = None
        self._syncing = threading.Lock()

    def open(self) -> list[Leaf]:
        """The files that an earlier process left, oldest first.

        Files that it had not used yet are removed. Raises OSError, and SetupError where another
        process has the folder.
        """
        self._lock = locked(self.folder)
        for fresh in self.folder.glob(f"*{_FRESH}"):
            fresh.unlink()
        paths = sorted(self.folder.glob(f"*{_SUFFIX}"))
        left = [Leaf(path, int(path.stem), full=True) for path in paths]
        self._number = left[-1].number if left else 0
        self.leaves = list(left)
        return left

    def close(self) -> None:
        """Let go of every file; those with open requests stay."""
        for leaf in (*self.leaves, *([self.spare] if self.spare else ())):
            if leaf.fd >= 0:
                os.close(leaf.fd)
                leaf.fd = -1
        if self.spare is not None:
            self.spare.path.unlink(missing_ok=True)
            self.spare = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def prepare(self) -> Leaf:
        """A new file, all of its bytes on the disk. Raises OSError."""
        self._number += 1
        path = self.folder / f"{self._number:012d}{_FRESH}"
        fd = prefilled(path, self.file_bytes, MAGIC)
        return Leaf(path, self._number, fd)

    def take(self, leaf: Leaf) -> None:
        """Write to this file, which was prepared, from now on. Raises OSError."""
        path = leaf.path.with_suffix(_SUFFIX)
        leaf.path.rename(path)
        leaf.path = path
        if self.leaves:
            self.leaves[-1].full = True
        self.leaves.append(leaf)

    @property
    def leaf(self) -> Leaf | None:
        """The file in which requests may begin, where there is one."""
        return self.leaves[-1] if self.leaves and not self.leaves[-1].full else None

    def room(self, claims: int) -> int:
        """Bytes left in it for what no open request has a claim to; `claims` counts those."""
        leaf = self.leaf
        return 0 if leaf is None else self.file_bytes - leaf.end - claims * CLAIM_BYTES

    def append(self, entry: list[Any]) -> Leaf:
        """Write an entry to the last file. Raises OSError; then nothing has been added."""
        leaf = self.leaves[-1] if self.leaves else None
        frame = framed(entry)
        if leaf is None or leaf.fd < 0 or leaf.end + len(frame) > self.file_bytes:
            raise OSError("the journal has no file with room for it")
        done = os.pwrite(leaf.fd, frame, leaf.end)
        if done != len(frame):
            raise OSError("the journal's file was cut short")
        leaf.end += done
        return leaf

    def sync(self) -> None:
        """All that has been written is on the disk when this returns. Raises OSError."""
        with self._syncing:
            for leaf in tuple(self.leaves):
                end = leaf.end
                if leaf.fd >= 0 and leaf.synced != end:
                    os.fdatasync(leaf.fd)
                    leaf.synced = end

    def drop(self, leaf: Leaf) -> None:
        """Remove a file that is not needed any more; nothing happens where it is gone."""
        with self._syncing:
            if leaf in self.leaves:
                self.leaves.remove(leaf)
            if leaf.fd >= 0:
                os.close(leaf.fd)
                leaf.fd = -1
        with contextlib.suppress(OSError):
            leaf.path.unlink()


def framed(entry: list[Any]) -> bytes:
    """An entry as it is written."""
    body = orjson.dumps(entry)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def entries(data: bytes) -> Iterator[list[Any]]:
    """The entries of a file, up to its end or to one that is not whole."""
    if not data.startswith(MAGIC):
        return
    at = len(MAGIC)
    while at + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if not size or len(body) != size or zlib.crc32(body) != checksum:
            return
        yield orjson.loads(body)
        at += _HEAD.size + size
