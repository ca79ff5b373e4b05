"""One background response while it runs: the sink of its turn, and what its readers follow."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from serve.core.errors import InvalidRequest
from serve.respond.run import Turns
from serve.respond.turn import Turn
from serve.state.records import Event


class Run:
    """One background response in this process. As a sink it keeps what it is given."""

    def __init__(self, turn: Turn, sent: list[bytes], turns: Turns) -> None:
        self.turn = turn
        self.frames = sent
        """By number, those that are kept and may be read."""
        self.cancelled = False
        self.dropped = False
        """Nothing of it is kept any more, nor wanted."""
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.started = self.produced = False
        self._turns = turns
        self._changed = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    async def write(self, frames: bytes) -> None:
        """The first output, after which the run cannot be begun again, or its end."""
        self.started = self.produced = True
        await self.publish(frames)

    async def comment(self, frames: bytes) -> None:
        """Nobody is there to be told."""

    async def publish(self, frames: bytes) -> None:
        """Keep the frames, then show them. Raises StorageUnavailable, with nothing shown.

        Where the response has been deleted, nothing is shown and the run is cancelled.
        """
        new = [part + b"\n\n" for part in frames.split(b"\n\n")[:-1]]
        first = len(self.frames)
        events = [Event(number, one) for number, one in enumerate(new, first)]

        async def write() -> None:
            if await self._turns.responses.append_events(self.turn.answer.id, events):
                self.show(new)
            else:
                self.drop()

        await self.whole(write())

    async def whole(self, write: Coroutine[Any, Any, None]) -> None:
        """Write to its end even where the run is cancelled meanwhile."""
        self._writing = asyncio.create_task(write)
        await asyncio.shield(self._writing)

    async def written(self) -> None:
        """Nothing is being written any more."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def show(self, frames: list[bytes]) -> None:
        """Let those who follow have them."""
        self.frames += frames
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def stop(self) -> None:
        """Work on it no more, unless it is at its end anyway."""
        if self.task is not None and not self.turn.settling:
            self.task.cancel()

    def drop(self) -> None:
        """Work on it no more, however far it is, and write nothing down."""
        self.dropped = True
        if self.task is not None:
            self.task.cancel()

    def end(self) -> None:
        """Nothing comes any more."""
        self.ended.set()
        self._changed.set()

    async def follow(self, after: int) -> AsyncIterator[bytes]:
        """The frames with a number above `after`, until the end."""
        place = after + 1
        while True:
            changed = self._changed
            if place < len(self.frames):
                new = self.frames[place:]
                place += len(new)
                yield b"".join(new)
            elif self.ended.is_set():
                return
            else:
                await changed.wait()


def check_number(after: int, number: int) -> None:
    """Raise InvalidRequest for a place to start after that no reader can have come to."""
    if after >= number:
        raise InvalidRequest(
            f"There is no event {after} to start after; the last one so far is {number - 1}.",
            param="starting_after",
            code="invalid_value",
        )


async def replay(frames: list[bytes]) -> AsyncIterator[bytes]:
    """Frames that are all there."""
    if frames:
        yield b"".join(frames)
