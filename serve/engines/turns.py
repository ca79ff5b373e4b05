"""First tokens before later ones: how much one turn of the event loop may relay of the latter.

If every stream that has something to relay were moved on in the turn in which that came, a new
request would wait, at each of its few turns, for all the others' chunks. A reader notices a late
first token and not a chunk a millisecond late, so streams past their first token take turns, and
what comes for them meanwhile rides in the same write.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

TURN_BUDGET_BYTES: Final = 8192
"""Relayed per turn for streams past their first token; about a fifth of a millisecond's work."""

STREAM_COST_BYTES: Final = 1024
"""What moving one stream on costs beside its bytes."""


class Waiting(Protocol):
    """A stream that waits for its turn."""

    @property
    def buffered_bytes(self) -> int:
        """What there is to relay."""

    def resume(self) -> None:
        """It is its turn; one that waits no more does nothing."""


class Turns:
    """Resumes streams in the order in which they asked. For one event loop."""

    __slots__ = ("_left_bytes", "_loop", "_queue")

    def __init__(self) -> None:
        self._queue: deque[Waiting] = deque()
        self._left_bytes = TURN_BUDGET_BYTES
        self._loop: asyncio.AbstractEventLoop | None = None
        """Set while turns are counted."""

    def wait(self, stream: Waiting) -> None:
        """Resume it when its turn comes, which may be now."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._next)
        if self._queue or self._left_bytes <= 0:
            self._queue.append(stream)
        else:
            self._resume(stream)

    def _next(self) -> None:
        if self._left_bytes == TURN_BUDGET_BYTES:  # nobody came in the last one
            self._loop = None
            return
        self._left_bytes = TURN_BUDGET_BYTES
        while self._queue and self._left_bytes > 0:
            self._resume(self._queue.popleft())
        assert self._loop is not None
        self._loop.call_soon(self._next)

    def _resume(self, stream: Waiting) -> None:
        self._left_bytes -= STREAM_COST_BYTES + stream.buffered_bytes
        stream.resume()
