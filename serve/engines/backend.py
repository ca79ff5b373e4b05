"""What answers for one model, whoever that is: an engine here, several, or one elsewhere."""

from collections.abc import Callable
from typing import Protocol

from serve.core.call import Call
from serve.engines.client import EngineClient
from serve.engines.status import EngineStatus


class Claim(Protocol):
    """One request's hold on an engine: while it lasts, the engine is not stopped for another."""

    @property
    def client(self) -> EngineClient:
        """The way to the engine."""

    def release(self) -> None:
        """The request has ended on this engine, however it ended."""


class Backend(Protocol):
    """The engine or engines of one model."""

    @property
    def status(self) -> EngineStatus:
        """The present state."""

    @property
    def client(self) -> EngineClient | None:
        """The way to an engine that is ready now; nothing is loaded or woken for it."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back after each change of the status, on the event loop."""

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Claim:
        """Hold an engine that answers, loading or waking it where that is needed.

        `avoid`: what this request has just been lost on. Raises EngineUnavailable, with an
        honest `retry_after_s`, at once where there is no hope and after `timeout_s` otherwise.
        """
