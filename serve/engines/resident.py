"""The backend of one engine on this machine."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from serve.core.call import Call
from serve.core.errors import EngineUnavailable
from serve.engines.client import EngineClient
from serve.engines.status import EngineStatus
from serve.engines.supervisor import EngineSupervisor

DEATH_NOTICED_S: Final = 0.5
"""Within which the end of a process is noticed once its connections are gone."""


class Held:
    """A claim on a resident engine."""

    __slots__ = ("_resident", "client")

    def __init__(self, resident: "Resident", client: EngineClient) -> None:
        self._resident = resident
        self.client = client

    def release(self) -> None:
        self._resident.in_use -= 1
        self._resident.last_used_s = time.monotonic()


class Resident:
    """One supervised engine, and who uses it."""

    def __init__(self, supervisor: EngineSupervisor) -> None:
        self.supervisor = supervisor
        self.in_use = 0
        self.last_used_s = time.monotonic()

    @property
    def status(self) -> EngineStatus:
        return self.supervisor.status

    @property
    def client(self) -> EngineClient | None:
        return self.supervisor.client

    def subscribe(self, callback: Callable[[], None]) -> None:
        self.supervisor.subscribe(callback)

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Held:
        """See `serve.engines.backend.Backend.claim`."""
        if avoid is not None:
            await self._let_die(avoid)
        client = self.supervisor.client
        if client is None:
            await self.supervisor.wait_ready(timeout_s)
            client = self.supervisor.client
            if client is None:
                raise EngineUnavailable(f"{call.model_id} is not ready; try again shortly")
        self.in_use += 1
        return Held(self, client)

    async def _let_die(self, client: EngineClient) -> None:
        """Give the supervisor the moment it needs to notice that an engine has died.

        Where it has not, only this connection was lost, and the same engine is asked again.
        """
        deadline_s = time.monotonic() + DEATH_NOTICED_S
        while (  # noqa: ASYNC110 - half a second at most, once in an engine's life
            self.supervisor.client is client and time.monotonic() < deadline_s
        ):
            await asyncio.sleep(0.01)
