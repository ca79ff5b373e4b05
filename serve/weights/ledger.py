"""Digests of directories, remembered: reading 100 GB to name it is work for once.

What is remembered holds as long as no file's name, size or time changes. It names weights; it
does not prove them: where a site gives a digest, every byte is read (`serve.weights.digest`).
"""

import hashlib
import os
from pathlib import Path
from typing import Final

import orjson

from serve.weights.digest import digest_of, files_of

ENTRIES_MAX: Final = 1024


class Ledger:
    """Directory → digest, kept in one file between starts; a file that is damaged is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[str, str]] = {}
        try:
            rows = orjson.loads(path.read_bytes())
            self._known = {str(place): (str(row[0]), str(row[1])) for place, row in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError):
            self._known = {}

    def digest(self, directory: Path) -> str:
        """The directory's digest, read from its files only where they have changed.

        Raises SettingsError where they cannot be read.
        """
        place, stamp = str(directory.resolve()), _stamp(directory)
        known = self._known.get(place)
        if known is not None and known[0] == stamp:
            return known[1]
        digest = digest_of(directory)
        self._known.pop(place, None)
        self._known[place] = (stamp, digest)
        while len(self._known) > ENTRIES_MAX:
            del self._known[next(iter(self._known))]
        self._write()
        return digest

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(orjson.dumps(self._known))
        part.replace(self._path)


def _stamp(directory: Path) -> str:
    """Changes when a file comes, goes, grows, shrinks or is written."""
    told = hashlib.sha256()
    for path in files_of(directory):
        seen = path.stat()
        told.update(f"{path.relative_to(directory)}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode())
    return told.hexdigest()
