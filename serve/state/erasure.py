"""The erasure of a tenant: what works for it is stopped, then all that is kept for it is destroyed.

It is counted in the database before anything is destroyed. From then on nothing is kept that was
begun before, on this gateway or another; the others learn of it within a second, and stop too.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from serve.core.roster import Roster
from serve.state.directory import Directory
from serve.state.retention import Retention

log = logging.getLogger("inhouse.state")

Stop = Callable[[str], Awaitable[int]]
"""Ends what works for a tenant; how many it ended."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many of each kind were destroyed, and how many of what worked were stopped for it."""

    objects: Mapping[str, int]
    stopped: Mapping[str, int]


class Eraser:
    """Erases tenants, one after another. `stops` end what works for one, by kind."""

    def __init__(
        self, directory: Directory, retention: Retention, stops: Mapping[str, Stop] | None = None
    ) -> None:
        self._directory = directory
        self._retention = retention
        self._stops = dict(stops or {})
        self._erasing = asyncio.Lock()
        self._known: dict[str, int] = {}
        self._own: str | None = None
        self._stopping: set[asyncio.Task[Mapping[str, int]]] = set()
        directory.subscribe(self._learn)

    async def erase(self, tenant: str) -> Erased:
        """Destroy all that is kept for it.

        Where this fails, or is killed, what is left is destroyed when it is called again. Raises
        NotFound, Conflict where it is under a legal hold, and StorageUnavailable.
        """
        async with self._erasing:
            self._own = tenant
            try:
                await self._directory.begin_erasure(tenant)
            finally:
                self._own = None
            stopped = await self._stop(tenant)
            objects = await self._retention.erase(tenant)
        count = sum(objects.values())
        log.warning("a tenant was erased", extra={"tenant": tenant, "objects": count})
        return Erased(objects, stopped)

    async def _stop(self, tenant: str) -> Mapping[str, int]:
        return {kind: await stop(tenant) for kind, stop in self._stops.items()}

    def _learn(self, roster: Roster) -> None:
        """Stop what works for a tenant that another gateway, or a command, erases."""
        now = {name: one.erasures for name, one in roster.tenants.items()}
        for name, erasures in now.items():
            if name != self._own and erasures > self._known.get(name, erasures):
                task = asyncio.create_task(self._stop(name), name=f"erasure of {name}")
                self._stopping.add(task)
                task.add_done_callback(self._stopping.discard)
        self._known = now
