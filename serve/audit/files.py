"""The audit log's folder: its segments, and files that are there whole or not at all.

A segment is named after the number of its first record, `0000000000000000.jsonl`. One that is
written to is longer than its records: zeros keep room for what is to come.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUFFIX: Final = ".jsonl"
NOTE_SUFFIX: Final = ".note"
CHECKPOINTS: Final = "checkpoints"
PUBLIC_KEY: Final = "key.pub"
READ_BYTES: Final = 2**20


def name_of(seq: int, suffix: str = SUFFIX) -> str:
    """A file's name, which sorts as its number does."""
    return f"{seq:016d}{suffix}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A segment that lies in the folder; `first` is the number in its name."""

    path: Path
    first: int


def segments_in(folder: Path) -> list[Stored]:
    """All segments, the oldest first. Raises OSError."""
    return [Stored(path, number) for path, number in _numbered(folder, SUFFIX)]


def notes_in(folder: Path) -> list[tuple[Path, int]]:
    """A log's own checkpoints, each with the number in its name, the oldest first."""
    return list(_numbered(folder / CHECKPOINTS, NOTE_SUFFIX))


def _numbered(folder: Path, suffix: str) -> Iterator[tuple[Path, int]]:
    for path in sorted(folder.glob(f"*{suffix}")):
        if path.stem.isdigit():
            yield path, int(path.stem)


class Lines:
    """The whole lines of a segment, without their ends; afterwards `rest` is what follows the
    last of them, without the zeros that end it, and `torn` whether zeros lie in the middle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rest = b""
        self.torn = False
        self.whole_bytes = 0
        """Length of what has been given out."""

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            rest = b""
            while data := file.read(READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                for at, line in enumerate(lines):
                    if b"\0" in line:
                        self.torn = True
                        after = b"\n".join((*lines[at:], rest)) + file.read()
                        self.rest = after.rstrip(b"\0")
                        return
                    self.whole_bytes += len(line) + 1
                    yield line
                if not rest.strip(b"\0"):
                    # Zeros to the end, as far as has been read: they are not kept.
                    rest = rest[:1]
            self.rest = rest.rstrip(b"\0")
            self.torn = b"\0" in self.rest


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that after a crash all of it is there, or what was before. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in it are on the disk when this returns. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
