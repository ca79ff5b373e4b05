"""Keys as text: how they are made and digested, and the starter key's file.

The database holds digests only; a key is shown once, when it is made. One exception, for the first
minutes of a new site: the starter key, which lies in clear in a file of its own (0600), so that
`make serve` can print it at every start and snippets that were pasted from it keep working. Delete
that file, and the next start makes another one.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serve.core.errors import SettingsError, SetupError

LOCK_WAIT_S: Final = 5.0

_KEY: Final = re.compile(r"sk-[A-Za-z0-9_-]{43}")


def new_key() -> str:
    """A fresh key: `sk-` and 256 random bits in URL-safe base64."""
    return "sk-" + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """What is stored of a key. It has 256 random bits, so no salt or slow hash is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def starter_key(path: Path) -> str:
    """The key that lies in clear at `path`, made there at the first call.

    Raises SettingsError where others may read the file, or where it holds something else.
    """
    with _held(path):
        if not _guarded(path):
            _write(path, new_key() + "\n")
        with path.open("rb") as opened:
            key = opened.read(100).decode("ascii", "replace").strip()
    if not _KEY.fullmatch(key):
        raise SettingsError(f"{path}: does not hold a key; delete it, and one is made at the start")
    return key


def _guarded(path: Path) -> bool:
    """Whether the file is there; raises SettingsError where anyone but its owner may use it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise SettingsError(f"{path}: not a file")
    if mode & 0o077:
        raise SettingsError(
            f"{path}: others may read or write it (mode {mode & 0o777:04o}); run: chmod 600 {path}"
        )
    return True


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the folder of `path`, made where it is missing, against other writers of keys."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SetupError(f"{path.parent}: cannot be used: {error.strerror}") from None
    try:
        _lock(folder, path.parent)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, name: Path) -> None:
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise SetupError(
                    f"{name}: another process is writing keys there; try again when it has ended"
                ) from None
            time.sleep(0.02)


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # The new name is on the disk only when its folder is.
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise SetupError(f"{path}: cannot be written: {error.strerror}") from None
