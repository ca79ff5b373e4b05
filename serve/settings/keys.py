"""The keys file: who may ask. It holds digests only; a key is shown once, when it is made.

One exception, for the first minutes of a new site: the starter key, which lies in clear in a file
of its own (0600), so that `make serve` can print it at every start and snippets that were pasted
from it keep working. Delete that file, and the next start makes another one.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from serve.core.errors import SettingsError, SetupError
from serve.settings.terms import IN_WORDS, Frozen
from serve.settings.tree import Node, Problem, read, refuse
from serve.settings.validation import validated

KEYS_MAX: Final = 1000
LOCK_WAIT_S: Final = 5.0

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_NAME_IN_WORDS: Final = "a name of up to 64 letters, digits and `.`, `_`, `@`, `-`"
_KEY: Final = re.compile(r"sk-[A-Za-z0-9_-]{43}")
_HEADER: Final = "# Keys of this site, by their SHA-256. Written by `inhouse keys`.\n"


class KeyEntry(Frozen):
    """One key: what it is called, its digest, and when it was made (UTC)."""

    name: Annotated[
        str, Field(pattern=f"^{_NAME.pattern}$", json_schema_extra={IN_WORDS: _NAME_IN_WORDS})
    ]
    sha256: Annotated[
        str,
        Field(
            pattern=r"^[0-9a-f]{64}$",
            json_schema_extra={IN_WORDS: "64 hexadecimal digits in lower case"},
        ),
    ]
    created: datetime


class KeyFile(Frozen):
    """The keys of a site, as its keys file lists them."""

    keys: Annotated[tuple[KeyEntry, ...], Field(max_length=KEYS_MAX)] = ()

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each key → its name."""
        return {entry.sha256: entry.name for entry in self.keys}

    def name_of(self, key: str) -> str | None:
        """Whose key this is; takes as long for a wrong key as for a right one."""
        digest = digest_of(key)
        found = None
        for entry in self.keys:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry.name
        return found

    def with_key(self, name: str, key: str) -> "KeyFile":
        """One key more; raises SettingsError where the name is taken or unfit."""
        if not _NAME.fullmatch(name):
            raise SettingsError(f"{json.dumps(name)} is no name for a key; use {_NAME_IN_WORDS}")
        if any(entry.name == name for entry in self.keys):
            raise SettingsError(
                f"there is a key named {name} already; choose another name, or remove that key "
                f"first: inhouse keys remove {name}"
            )
        if len(self.keys) >= KEYS_MAX:
            raise SettingsError(f"there are {KEYS_MAX} keys, the most a site may have")
        now = datetime.now(UTC).replace(microsecond=0)
        entry = KeyEntry(name=name, sha256=digest_of(key), created=now)
        return KeyFile(keys=(*self.keys, entry))

    def without(self, name: str) -> "KeyFile":
        """One key less; raises SettingsError where there is none of this name."""
        kept = tuple(entry for entry in self.keys if entry.name != name)
        if len(kept) == len(self.keys):
            known = ", ".join(entry.name for entry in self.keys) or "none"
            raise SettingsError(f"there is no key named {name}; the keys: {known}")
        return KeyFile(keys=kept)


def new_key() -> str:
    """A fresh key: `sk-` and 256 random bits in URL-safe base64."""
    return "sk-" + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """What is stored of a key. It has 256 random bits, so no salt or slow hash is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def load_keys(path: Path) -> KeyFile:
    """The keys at `path`; none where there is no such file.

    Raises SettingsError where others may read the file, or where it is wrong.
    """
    if not _guarded(path):
        return KeyFile()
    problems: list[Problem] = []
    # No environment: a keys file has no use for variables.
    node = read(path, {}, problems)
    keys = validated(KeyFile, node, problems) if node is not None else None
    problems += _twice(node) if node is not None and keys is not None else []
    refuse(problems)
    return keys or KeyFile()


def save_keys(path: Path, keys: KeyFile) -> None:
    """Write the keys file as a whole, 0600: a reader, or a crash, sees the old or the new one."""
    entries = "".join(f"- {entry.model_dump_json()}\n" for entry in keys.keys)
    _write(path, _HEADER + (f"keys:\n{entries}" if entries else "keys: []\n"))


def add_key(path: Path, name: str) -> str:
    """Make a key of this name, store its digest, and return it; the only time it is in clear."""
    key = new_key()
    with _held(path):
        save_keys(path, load_keys(path).with_key(name, key))
    return key


def remove_key(path: Path, name: str) -> None:
    """Forget a key; raises SettingsError where there is none of this name."""
    with _held(path):
        save_keys(path, load_keys(path).without(name))


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


def _twice(node: Node) -> list[Problem]:
    seen: dict[tuple[str, object], int] = {}
    problems = []
    for index, entry in enumerate(node.nearest(("keys",)).elements()):
        for field in ("name", "sha256"):
            value = entry.nearest((field,))
            if seen.setdefault((field, value.value), index) != index:
                text = f"keys[{index}].{field} is that of an earlier key; remove one of the two"
                problems.append(Problem(value.file, value.line, text))
    return problems


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
