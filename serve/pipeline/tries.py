"""Whether a request that has lost its engine is run once more."""

from typing import Final

from serve.core.errors import EngineError, EngineUnavailable
from serve.engines.client import EngineClient
from serve.engines.connection import ConnectionLost

ATTEMPTS: Final = 3
"""Engines that one request may lose before it has produced anything: it may be what ends them."""


class Tries:
    """How often one request has failed on the way to its first output."""

    __slots__ = ("_lost", "_unreached")

    def __init__(self) -> None:
        self._lost = self._unreached = 0

    async def again(self, error: EngineError, client: EngineClient) -> bool:
        """Count this failure of an engine; whether the request may be tried once more.

        An engine that could not be reached has not seen the request and tells nothing about it.
        One that lives on has given its answer, and would give it again.
        """
        if isinstance(error, EngineUnavailable):
            self._unreached += 1
        elif isinstance(error, ConnectionLost) or await client.is_dying():
            self._lost += 1
        else:
            return False
        return max(self._lost, self._unreached) < ATTEMPTS
