"""Where requests wait while one engine goes and the next comes, where both do not fit."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from serve.core.call import Call
from serve.core.errors import EngineUnavailable
from serve.engines.backend import Backend, Claim
from serve.engines.client import EngineClient
from serve.engines.states import State
from serve.engines.status import EngineStatus


class Handover:
    """The backend of a model between two engines.

    It claims nothing: once it is over, those who wait are told so by EngineUnavailable, and the
    pipeline asks whoever is published under their name by then.
    """

    def __init__(self, old: Backend, waiting_max: int, retry_after_s: float) -> None:
        self._old = old
        self._waiting_max = waiting_max
        self._retry_after_s = retry_after_s
        self._over = asyncio.Event()
        self.waiting = 0

    def end(self) -> None:
        """Something else is published; whoever waits goes there."""
        self._over.set()

    @property
    def status(self) -> EngineStatus:
        """That of the old engine; never ready."""
        status = self._old.status
        if status.state is not State.READY:
            return status
        return replace(status, state=State.STARTING, next_start_in_s=None)

    @property
    def client(self) -> EngineClient | None:
        return None

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._old.subscribe(callback)

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Claim:
        """Wait for the end of the handover; always raises EngineUnavailable."""
        if self.waiting >= self._waiting_max:
            raise EngineUnavailable(
                f"{self.waiting} requests wait for {call.model_id} already "
                "(limits.waiting_requests); try again shortly",
                retry_after_s=self._retry_after_s,
            )
        self.waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._over.wait()
        finally:
            self.waiting -= 1
        raise EngineUnavailable(
            f"{call.model_id} is being replaced; try again in {self._retry_after_s:.0f} s",
            retry_after_s=self._retry_after_s,
        )
