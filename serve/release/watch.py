"""A look at the settings files from time to time; a change that lasts is applied."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

log = logging.getLogger("inhouse.release")

IDLE_S = 2.0
"""Between two looks at whether watching has been switched on."""

Seen = dict[Path, tuple[int, int, str] | None]
"""Time, size and digest of each file; None where there is none."""


def look(paths: Iterable[Path], before: Seen) -> Seen:
    """The files as they are. Blocks; a file is read only where its time or size has changed."""
    return {path: _look(path, before.get(path)) for path in paths}


def _look(path: Path, before: tuple[int, int, str] | None) -> tuple[int, int, str] | None:
    try:
        stat = path.stat()
        if before is not None and before[:2] == (stat.st_mtime_ns, stat.st_size):
            return before
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, digest


def differ(one: Seen, other: Seen) -> bool:
    """Whether any file's content is another; its time alone does not count."""
    return {p: s and s[2] for p, s in one.items()} != {p: s and s[2] for p, s in other.items()}


class Watch:
    """Calls `apply` once the files have changed and then stayed as they are for one period.

    `files` says which files count now, with the digests of those that the running site was made
    of, and `every_s` how often to look; it is None while nothing is watched.
    """

    def __init__(
        self,
        files: Callable[[], Mapping[Path, str | None]],
        every_s: Callable[[], float | None],
        apply: Callable[[], Awaitable[None]],
    ) -> None:
        self._files = files
        self._every_s = every_s
        self._apply = apply

    async def run(self) -> None:
        """Watch until cancelled."""
        last: Seen = {}
        tried: Seen | None = None
        while True:
            every_s = self._every_s()
            await asyncio.sleep(IDLE_S if every_s is None else every_s)
            files = await asyncio.to_thread(self._files)
            now = await asyncio.to_thread(look, files, last)
            settled = not differ(now, last)
            last = now
            if every_s is None:
                tried = None
                continue
            if tried is None:
                tried = now | {path: (0, 0, one) for path, one in files.items() if one is not None}
            if settled and differ(now, tried):
                tried = now
                log.info("settings files have changed")
                await self._apply()
