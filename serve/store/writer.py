"""The one writer of a SQLite database: works that wait together are committed together.

A commit costs much more than what it commits, so under load each takes all that has come since
the last.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

from serve.core.errors import StorageUnavailable

T = TypeVar("T")

GROUP_MAX: Final = 256
"""Works in one transaction; readers do not wait for it, but each work in it does."""


@dataclass(slots=True)
class _Order:
    work: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class GroupWriter:
    """A thread with the only connection that writes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run the work in a transaction; it has been committed when this returns.

        What the work raises undoes it alone, and is raised here. One that was ordered is done,
        even where who waits for it is cancelled.
        """
        if self._closed:
            raise StorageUnavailable("the database is closed: this server stops")
        loop = asyncio.get_running_loop()
        order = _Order(work, loop, loop.create_future())
        self._orders.put(order)
        result: T = await order.done
        return result

    def close(self) -> None:
        """Do what has been ordered, and end; blocks."""
        self._closed = True
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._orders.get()) is not None:
            group = [first]
            ended = self._gather(group)
            self._commit(group)
            if ended:
                return

    def _gather(self, group: list[_Order]) -> bool:
        """Add what waits already; whether the end has been among it."""
        while len(group) < GROUP_MAX:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                return False
            if order is None:
                return True
            group.append(order)
        return False

    def _commit(self, group: list[_Order]) -> None:
        self._transact(group)
        for loop in {order.loop for order in group}:
            mine = [order for order in group if order.loop is loop]
            # A loop that has been closed has nobody left who waits.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, mine)

    def _transact(self, group: list[_Order]) -> None:
        try:
            with self._engine.begin() as connection:
                for order in group:
                    order.result = order.work(connection)
        except Exception as error:
            # What one of them raised, or the database's own failure, a full disk perhaps, has
            # undone all of them. Each that can be done is done when it stands alone: rarer, and
            # so cheaper, than a savepoint for each.
            if len(group) == 1:
                group[0].error = error
                return
            for order in group:
                self._transact([order])


def _tell(orders: list[_Order]) -> None:
    for order in orders:
        if order.done.done():
            continue
        if order.error is not None:
            order.done.set_exception(order.error)
        else:
            order.done.set_result(order.result)
