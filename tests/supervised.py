"""Stories of engines that are real processes, though fake engines."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop


def play(story: Coroutine[Any, Any, None]) -> None:
    """Run it; it may leave no task behind."""

    async def main() -> None:
        await story
        assert asyncio.all_tasks() == {asyncio.current_task()}

    uvloop.run(main())


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what happens in another process, ten seconds at most."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - nothing here is told of it
            await asyncio.sleep(0.005)
