"""Places for lines on the models: few, and fewer while others ask."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

from serve.batch.pace import lines_allowed
from serve.batch.ports import Traffic
from serve.settings.batches import Batches

LOOK_AGAIN_S: Final = 0.05
"""Nobody is told when the others have gone."""


@dataclass(slots=True)
class Lane:
    """What one model has of lines in hand."""

    running: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    freed: asyncio.Event = field(default_factory=asyncio.Event)


class Lanes:
    """Who waits gets a place in the order of coming, so that batches take turns."""

    def __init__(self, settings: Batches, traffic: Traffic) -> None:
        self.settings = settings
        self._traffic = traffic
        self._lanes: dict[str, Lane] = {}

    async def enter(self, model: str) -> Lane:
        """Wait for a place on a model; `leave` what this returns."""
        lane = self._lanes.setdefault(self._traffic(model).lane, Lane())
        async with lane.turn:
            while lane.running >= lines_allowed(self.settings, self._traffic(model)):
                lane.freed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lane.freed.wait(), LOOK_AGAIN_S)
            lane.running += 1
        return lane

    @staticmethod
    def leave(lane: Lane) -> None:
        """The line has ended."""
        lane.running -= 1
        lane.freed.set()
