"""Puts what was written on the disk in groups, in a thread that nobody waits for unless he must."""

import asyncio
import threading
from collections.abc import Callable
from typing import Final

SOON_S: Final = 0.01
"""How long a request's beginning waits for others to go to the disk with it, unless its first
output comes sooner."""
LATER_S: Final = 0.25
"""How long everything else does: what the loss of power may cost."""


class Syncer:
    """`sync` is called in a thread of its own; what was written before a call of it is then on the
    disk. `failed` is told on the loop of its OSErrors.
    """

    def __init__(
        self, name: str, sync: Callable[[], None], failed: Callable[[OSError], None]
    ) -> None:
        self._sync = sync
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._written = self._synced = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"{name}-sync", daemon=True)
        self._thread.start()

    def wrote(self, *, soon: bool) -> int:
        """Something was written; its position, to wait for."""
        self._written += 1
        delay_s = SOON_S if soon else LATER_S
        timer = self._timer
        if timer is None or timer.when() > self._loop.time() + delay_s:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_later(delay_s, self._now)
        return self._written

    async def reached(self, position: int) -> None:
        """Wait until what was written there is on the disk.

        Raises OSError where it cannot be put there.
        """
        if self._synced >= position:
            return
        done = self._loop.create_future()
        self._waiting.append((position, done))
        self._wanted.set()
        await done

    def close(self) -> None:
        """Sync once more, and end; blocks."""
        if self._timer is not None:
            self._timer.cancel()
        self._ending = True
        self._wanted.set()
        self._thread.join()

    def _now(self) -> None:
        self._timer = None
        self._wanted.set()

    def _run(self) -> None:
        ending = False
        while not ending:
            self._wanted.wait()
            self._wanted.clear()
            # Read before what is written: what is written after it is for the next turn.
            ending, position = self._ending, self._written
            failure: OSError | None = None
            try:
                self._sync()
                self._synced = position
            except OSError as error:
                failure = error
            if (self._waiting or failure) and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._tell, position, failure)

    def _tell(self, position: int, failure: OSError | None) -> None:
        if failure is not None:
            self._failed(failure)
        waiting, self._waiting = self._waiting, []
        for wanted, done in waiting:
            if done.done():
                continue
            if wanted > position:
                self._waiting.append((wanted, done))
                self._wanted.set()
            elif failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(None)
