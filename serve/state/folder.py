"""A folder of bytes by id: written under another name, and renamed once they are whole."""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, TypeVar

from serve.core.errors import StorageUnavailable

log = logging.getLogger("inhouse.state")

T = TypeVar("T")

GATHERED_BYTES: Final = 1024 * 1024
"""What is gathered before it is written: each write is a hop to a thread and back."""
_UNFINISHED: Final = ".part"


class Incoming:
    """Bytes on their way into the folder; nobody sees them before `seal`.

    Every method but `discard` raises StorageUnavailable where the disk is full or failing; what
    was written is gone then.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.id: Final = name
        self.size_bytes = 0
        self._whole = folder / name
        self._path = folder / f".{name}{_UNFINISHED}"
        self._digest = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._descriptor: int | None = None

    @property
    def digest(self) -> str:
        """Of all that has been written."""
        return f"sha256:{self._digest.hexdigest()}"

    async def write(self, data: bytes) -> None:
        """Add these bytes."""
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        self.size_bytes += len(data)
        if self._gathered_bytes >= GATHERED_BYTES:
            await self._in_thread(self._flush)

    async def seal(self) -> None:
        """Make them durable and have them found under `id`."""
        await self._in_thread(self._seal)

    async def discard(self) -> None:
        """Leave nothing behind, sealed or not."""
        await asyncio.to_thread(self._remove)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        writing = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # The thread writes on: nothing may be taken away under it.
            await asyncio.wait({writing})
            raise
        except OSError as error:
            await self.discard()
            raise _unavailable(error) from error

    def _flush(self) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        for data in gathered:
            self._digest.update(data)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def _seal(self) -> None:
        self._flush()
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None
        self._path.rename(self._whole)
        _sync(self._whole.parent)

    def _remove(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        for path in (self._path, self._whole):
            _unlink(path)


class Folder:
    """`path` is made where it is missing, for its own user only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, name: str) -> Incoming:
        """Begin to write what will be found under this name."""
        return Incoming(self.path, name)

    def path_of(self, name: str) -> Path:
        """Where the bytes of that name are, if they are there."""
        return self.path / name

    async def make(self) -> None:
        """Raises StorageUnavailable."""
        await _or_unavailable(lambda: self.path.mkdir(parents=True, exist_ok=True, mode=0o700))

    async def link(self, name: str, other: str) -> None:
        """Have the same bytes under another name too.

        They stay as long as one of the two is not removed. Raises FileNotFoundError.
        """
        source, target = self.path_of(name), self.path_of(other)
        await _or_unavailable(lambda: target.hardlink_to(source))

    async def remove(self, names: Collection[str]) -> None:
        """Remove those that are there; what cannot be removed is logged."""

        def work() -> None:
            for name in names:
                _unlink(self.path_of(name))

        if names:
            await asyncio.to_thread(work)

    def destroy(self, names: Iterable[str]) -> None:
        """Remove those that are there, all of them; blocks. Raises StorageUnavailable."""
        try:
            for name in names:
                self.path_of(name).unlink(missing_ok=True)
        except OSError as error:
            raise _unavailable(error) from error

    async def names(self, older_than_s: float) -> set[str]:
        """All that lies there, finished or not, and was neither written nor linked for so long.

        Raises StorageUnavailable.
        """

        def work() -> set[str]:
            before_s = time.time() - older_than_s
            found = set()
            with os.scandir(self.path) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        if older_than_s <= 0 or entry.stat().st_ctime < before_s:
                            found.add(entry.name)
            return found

        return await _or_unavailable(work)


def joined(paths: Iterable[Path]) -> Iterable[bytes]:
    """The bytes of several files, one after another; blocks."""
    for path in paths:
        with path.open("rb") as file:
            while data := file.read(GATHERED_BYTES):
                yield data


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error.strerror)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _or_unavailable(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unavailable(error) from error


def _unavailable(error: OSError) -> StorageUnavailable:
    log.error("files cannot be written: %s", error.strerror)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageUnavailable("this server has no room left for files", retry_after_s=60)
    return StorageUnavailable("this server cannot write files now; try again")
