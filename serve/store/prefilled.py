"""Files whose room is taken before it is needed, in a folder of one process's own.

A disk that fills up later takes no space away from them.
"""

import contextlib
import os
from pathlib import Path
from typing import IO, Final

from serve.store.claim import claimed

_BLOCK: Final = 2**20


def locked(folder: Path) -> IO[bytes]:
    """Take a folder, made where it is not there, until the file that is returned is closed.

    Raises OSError, and SetupError where another process has the folder.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    refusal = f"{folder}: another server uses it; each needs a `var_dir` of its own"
    return claimed(folder / "lock", refusal)


def prefilled(path: Path, size_bytes: int, head: bytes = b"") -> int:
    """A new file of zeros after `head`, all of it on the disk; its descriptor. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _fill(fd, size_bytes)
        os.pwrite(fd, head, 0)
        os.fsync(fd)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return fd


def _fill(fd: int, size: int) -> None:
    block = bytes(min(_BLOCK, size))
    left = size
    while left:
        left -= os.write(fd, block[:left])
