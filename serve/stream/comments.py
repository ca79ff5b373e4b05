"""Signs of life for a stream that has nothing to say yet: SSE comments, which clients skip.

A proxy that sees nothing for a minute takes a connection for dead, and so does a person.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from serve.core.call import Sink

FIRST_AFTER_S: Final = 3.0
"""Most waits are over by then, and those that fail end with a status instead of a comment."""
EVERY_S: Final = 5.0


class Comments:
    """Writes what `say` says now and then, until `end`. One timer where nothing has to be said."""

    __slots__ = ("_loop", "_say", "_sink", "_timer", "_writing")

    def __init__(self, sink: Sink, say: Callable[[float], str]) -> None:
        """`say` is given the seconds that have been waited for so far, at least about."""
        self._sink = sink
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._writing: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(FIRST_AFTER_S, self._write, self._loop.time())

    def _write(self, since_s: float) -> None:
        said = self._say(self._loop.time() - since_s).replace("\n", " ")
        self._writing = self._loop.create_task(self._sink.comment(f": {said}\n\n".encode()))
        self._timer = self._loop.call_later(EVERY_S, self._again, since_s)

    def _again(self, since_s: float) -> None:
        if self._writing is not None and not self._writing.done():
            self._timer = self._loop.call_later(EVERY_S, self._again, since_s)  # a slow reader
        else:
            self._write(since_s)

    async def end(self) -> None:
        """Say no more; what is being written is written to its end, for frames must not mix."""
        self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait({self._writing})
            self._writing.result()
