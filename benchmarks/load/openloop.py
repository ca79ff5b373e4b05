"""The open-loop driver: requests are sent when they are due, whatever became of those before.

A closed loop waits for an answer before it asks again, and so asks less of a server that is slow:
the time that others would have waited is never seen (coordinated omission).
"""

import asyncio
import gc
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.load.flight import Flight, WatchedConnection, land, reader_of
from benchmarks.load.http import Connection, opened
from benchmarks.load.loops import LagMeter
from benchmarks.load.result import Outcome, Row
from benchmarks.load.target import Target
from benchmarks.load.workload import Planned

IDLE_MAX_S: Final = 2.0
"""Connections idle for longer are not used again: servers close them after 5 s (uvicorn)."""
CONNECTIONS_MAX: Final = 4096
GIVE_UP_AFTER: Final = 20
"""So many failures at the very start, and no answer: nothing more is sent."""
START_DELAY_S: Final = 0.05
STOPPED: Final = "the run was stopped"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run found."""

    rows: tuple[Row, ...]
    took_s: float
    cpu_s: float
    lags_s: tuple[float, ...]
    connections: int
    gave_up: bool
    stopped: bool


class OpenLoop:
    """Sends each request at its offset; connections are opened as they are needed, and kept."""

    def __init__(
        self, target: Target, timeout_s: float, connections_max: int = CONNECTIONS_MAX
    ) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._connections_max = connections_max
        self._idle: list[WatchedConnection] = []
        self._open: set[WatchedConnection] = set()
        self._opened = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._flights: list[Flight] = []
        self._landed = 0
        self._answered = False
        self._quiet = asyncio.Event()
        self._origin_s = 0.0
        self._sending: asyncio.Task[bool] | None = None
        self._stopped = False

    async def run(
        self, requests: Sequence[Planned], encoded: Sequence[bytes], offsets_s: Sequence[float]
    ) -> Run:
        """Send them all, and wait for the last to end."""
        _allow_files(self._connections_max)
        gc.collect()
        gc.disable()
        cpu_s, lag = time.process_time(), LagMeter()
        self._origin_s = time.perf_counter() + START_DELAY_S
        self._sending = asyncio.create_task(self._send_all(requests, encoded, offsets_s))
        try:
            async with lag:
                (all_sent,) = await asyncio.gather(self._sending, return_exceptions=True)
                while self._landed < len(self._flights):
                    self._quiet.clear()
                    await self._quiet.wait()
        finally:
            gc.enable()
            self._close()
        if isinstance(all_sent, Exception):
            raise all_sent
        took_s = time.perf_counter() - self._origin_s
        cpu_s = time.process_time() - cpu_s
        self._leave_out(requests, offsets_s)
        return Run(
            rows=tuple(flight.row(self._origin_s) for flight in self._flights),
            took_s=took_s, cpu_s=cpu_s, lags_s=tuple(lag.lags_s), connections=self._opened,
gave_up=all_sent is False,
            stopped=self._stopped,
        )  # fmt: skip

    def stop(self) -> None:
        """Send no more and cut what is in flight; what was found until now is kept."""
        self._stopped = True
        if self._sending is not None:
            self._sending.cancel()
        for task in tuple(self._connecting):
            task.cancel()
        for connection in tuple(self._open):
            connection.abort()

    async def _send_all(
        self, requests: Sequence[Planned], encoded: Sequence[bytes], offsets_s: Sequence[float]
    ) -> bool:
        """Whether all were sent: not where nothing but failures came back at first."""
        due = zip(requests, encoded, offsets_s, strict=True)
        for number, (planned, data, offset_s) in enumerate(due):
            wait_s = self._origin_s + offset_s - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif number % 64 == 63:
                await asyncio.sleep(0)  # those overdue must not keep answers from being read
            if not self._answered and self._landed >= GIVE_UP_AFTER:
                return False
            flight = Flight(planned, self._origin_s + offset_s, reader_of(planned))
            self._flights.append(flight)
            self._launch(flight, data)
        return True

    def _leave_out(self, requests: Sequence[Planned], offsets_s: Sequence[float]) -> None:
        """A row for each that was never sent, too."""
        begun = len(self._flights)
        for planned, offset_s in zip(requests[begun:], offsets_s[begun:], strict=True):
            left = Flight(planned, self._origin_s + offset_s, reader_of(planned), lost="unsent")
            self._flights.append(left)

    def _launch(self, flight: Flight, data: bytes) -> None:
        now_s = time.perf_counter()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and now_s - connection.idle_since_s < IDLE_MAX_S:
                self._begin(connection, flight, data)
                return
            connection.abort()
            self._open.discard(connection)
        if len(self._open) + len(self._connecting) >= self._connections_max:
            self._lose(flight, "unsent", f"{self._connections_max} connections are open already")
            return
        task = asyncio.create_task(self._connect(flight, data))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, flight: Flight, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await opened(
                    self._target.address, lambda: WatchedConnection(self._ended), self._target.tls
                )
        except asyncio.CancelledError:
            self._lose(flight, "cut", STOPPED)
        except TimeoutError:
            self._lose(flight, "timeout", "no connection in time")
        except OSError as error:
            self._lose(flight, "unreachable", words(error))
        else:
            self._opened += 1
            self._open.add(connection)
            self._begin(connection, flight, data)

    def _begin(self, connection: WatchedConnection, flight: Flight, data: bytes) -> None:
        connection.take_off(flight, data)
        self._timers[flight.planned.id] = asyncio.get_running_loop().call_later(
            self._timeout_s, self._time_out, connection, flight
        )

    def _time_out(self, connection: WatchedConnection, flight: Flight) -> None:
        flight.lost, flight.detail = "timeout", f"no end within {self._timeout_s:g} s"
        connection.abort()

    def _ended(self, connection: Connection) -> None:
        assert isinstance(connection, WatchedConnection)
        flight = land(connection)
        if self._stopped and flight.lost == "cut":
            flight.detail = STOPPED
        if connection.kept_alive:
            self._idle.append(connection)
        else:
            connection.abort()
            self._open.discard(connection)
        self._land(flight)

    def _lose(self, flight: Flight, why: Outcome, detail: str) -> None:
        flight.lost, flight.detail, flight.end_s = why, detail, time.perf_counter()
        self._land(flight)

    def _land(self, flight: Flight) -> None:
        timer = self._timers.pop(flight.planned.id, None)
        if timer is not None:
            timer.cancel()
        self._answered = self._answered or flight.answered
        self._landed += 1
        if self._landed == len(self._flights):
            self._quiet.set()

    def _close(self) -> None:
        for task in tuple(self._connecting):
            task.cancel()
        for connection in tuple(self._open):
            connection.exchange = None
            connection.abort()


def words(error: OSError) -> str:
    """asyncio puts the address where the system's words would be."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)


def _allow_files(count: int) -> None:
    """As many open files as connections may need, as far as the machine's limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft < wanted:
        highest = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, highest), hard))
