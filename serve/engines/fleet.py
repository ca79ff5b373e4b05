"""The engines of one site, started one after another and stopped together."""

import asyncio
import logging
from collections.abc import Iterable

from serve.core.errors import EngineUnavailable
from serve.engines.status import EngineStatus
from serve.engines.supervisor import EngineSupervisor
from serve.settings.model import ServedModel

log = logging.getLogger("inhouse.engine")


class Fleet:
    """All supervisors of a site, in the order of its file."""

    def __init__(self, supervisors: Iterable[EngineSupervisor]) -> None:
        self._supervisors = tuple(supervisors)
        self._by_name = {name: one for one in self._supervisors for name in one.model.names}
        self._starting: asyncio.Task[None] | None = None

    def get(self, name: str) -> EngineSupervisor | None:
        """The supervisor of the model with this id, name or alias."""
        return self._by_name.get(name)

    def pairs(self) -> tuple[tuple[ServedModel, EngineSupervisor], ...]:
        """Each model with its supervisor."""
        return tuple((one.model, one) for one in self._supervisors)

    def statuses(self) -> tuple[EngineStatus, ...]:
        """The present state of each engine."""
        return tuple(one.status for one in self._supervisors)

    async def start(self) -> None:
        """Begin starting every model that is loaded at startup; returns at once."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start_each(), name="fleet start")

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Stop every engine; returns when no process is left."""
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.wait({starting})
        await asyncio.gather(*(one.stop(drain_timeout_s) for one in self._supervisors))

    async def _start_each(self) -> None:
        # One at a time: two engines that start together fight for cores, and for memory that
        # each believes to be free, and both are ready later than in turn.
        for one in self._supervisors:
            if one.model.load != "startup":
                continue
            await one.start()
            try:
                await one.wait_ready(one.start_timeout_s)
            except EngineUnavailable as unavailable:
                log.warning("starting the next engine: %s", unavailable.message)
