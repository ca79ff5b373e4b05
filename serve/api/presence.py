"""Whether a client is still there: work for one who has left is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from starlette.types import Message, Receive

WATCH_AFTER_S: Final = 0.05
"""The watch costs a task, and most refusals and short answers are over by then."""


async def until_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run the work in this task, and cancel it when the client goes away.

    Its request must have been read to the end: what comes next from there is its leaving.
    """
    this = asyncio.current_task()
    assert this is not None
    gone: asyncio.Future[Message] | None = None

    def leave(_: object) -> None:
        this.cancel()

    def watch() -> None:
        nonlocal gone
        watching = gone = asyncio.ensure_future(receive())
        watching.add_done_callback(leave)

    timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, watch)
    try:
        await work
    except asyncio.CancelledError:
        if gone is None or not gone.done():
            raise
        this.uncancel()
    finally:
        timer.cancel()
        if gone is not None:
            gone.remove_done_callback(leave)
            gone.cancel()
