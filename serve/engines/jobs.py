"""Background work of one owner: kept from being collected, and never failing in silence."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Jobs:
    """Tasks whose unforeseen failures are told to `on_failure`."""

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run it beside the caller."""

        async def job() -> None:
            try:
                await work
            except Exception as error:
                self._on_failure(error)

        task = asyncio.create_task(job())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task cancelled before its first step never awaits its work.
        task.add_done_callback(lambda _: work.close())
        return task

    async def cancel(self) -> None:
        """End what still runs, and wait until it has ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
