"""Ways to drive a server: a closed loop at saturation, a paced closed loop, bursts.

All are closed loops: they answer what a gateway adds and what it can carry, not how a server
behaves under arrivals that do not wait. An open loop is the other driver's business.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.load.http import Address, Connection, Exchange, Reader, connect

FAILURES_MAX: Final = 200
"""A run with more failures than this measures errors; it is ended."""

LAG_PERIOD_S: Final = 0.005


class TooManyFailures(Exception):
    """The target fails; what was measured of it says nothing."""


@dataclass(frozen=True, slots=True)
class Steady:
    """What happened between two instants of a loop at saturation."""

    seconds: float
    completed: int
    failed: int
    events: int
    cpu_s: tuple[float, ...]
    """Processor time of each probe given, over the same interval."""


@dataclass(slots=True)
class ClosedLoop:
    """Keeps `streams` exchanges in flight: each connection sends again when its answer ends."""

    address: Address
    request: bytes
    streams: int
    reader: Callable[[], Reader]
    think_s: Callable[[], float] | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    completed: int = 0
    failed: int = 0
    _connections: list[Connection] = field(default_factory=list)
    _running: bool = False
    _in_flight: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _reopening: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, starts_s: Sequence[float] = ()) -> None:
        """Open all connections and begin, connection i after starts_s[i] if given."""
        self._connections = [await connect(self.address, self._ended) for _ in range(self.streams)]
        self._running = True
        loop = asyncio.get_running_loop()
        for index, connection in enumerate(self._connections):
            delay_s = starts_s[index] if starts_s else 0.0
            loop.call_later(delay_s, self._send, connection)

    async def stop(self, drain_s: float) -> None:
        """Send no more; wait up to `drain_s` for what is in flight, then cut it."""
        self._running = False
        if self._in_flight and drain_s:
            self._idle.clear()
            try:
                async with asyncio.timeout(drain_s):
                    await self._idle.wait()
            except TimeoutError:
                pass
        for connection in self._connections:
            connection.exchange = None
            connection.abort()
        if self.failed > FAILURES_MAX:
            raise TooManyFailures(f"{self.failed} requests failed")

    @property
    def events(self) -> int:
        return sum(connection.events for connection in self._connections)

    async def window(self, seconds: float, probes: Sequence[Callable[[], float]]) -> Steady:
        """Let it run for about this long and count."""
        cpu = [probe() for probe in probes]
        begin_s, completed, failed = time.perf_counter(), self.completed, self.failed
        events = self.events
        await asyncio.sleep(seconds)
        return Steady(
            seconds=time.perf_counter() - begin_s,
            completed=self.completed - completed,
            failed=self.failed - failed,
            events=self.events - events,
            cpu_s=tuple(probe() - before for probe, before in zip(probes, cpu, strict=True)),
        )

    def _send(self, connection: Connection) -> None:
        if self._running and not connection.closed:
            self._in_flight += 1
            connection.send(self.request, self.reader())

    def _ended(self, connection: Connection) -> None:
        exchange = connection.exchange
        connection.exchange = None
        assert exchange is not None
        self._in_flight -= 1
        if exchange.failed:
            self.failed += 1
        else:
            self.completed += 1
        self.exchanges.append(exchange)
        if not self._running:
            if not self._in_flight:
                self._idle.set()
        elif self.failed > FAILURES_MAX:
            self._running = False
        elif connection.closed:
            self._reopen(connection)
        elif self.think_s is not None:
            asyncio.get_running_loop().call_later(self.think_s(), self._send, connection)
        else:
            self._send(connection)

    def _reopen(self, lost: Connection) -> None:
        async def reopen() -> None:
            fresh = await connect(self.address, self._ended)
            fresh.events = lost.events
            self._connections[self._connections.index(lost)] = fresh
            self._send(fresh)

        task = asyncio.create_task(reopen())
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)


async def paced(
    loop: ClosedLoop, seconds: float, period_s: float, rng: random.Random, drain_s: float
) -> list[Exchange]:
    """Run a closed loop whose streams start spread over one `period_s`; all its exchanges.

    Without the spread, streams of equal length stay in step for ever.
    """
    await loop.start([rng.uniform(0, period_s) for _ in range(loop.streams)])
    await asyncio.sleep(seconds)
    await loop.stop(drain_s)
    return loop.exchanges


async def bursts(
    address: Address, request: bytes, reader: Callable[[], Reader], *, streams: int,
    seconds: float, timeout_s: float, pause_s: Callable[[], float],
) -> list[Exchange]:  # fmt: skip
    """For about `seconds`: `streams` requests at one instant, then wait for the last answer."""
    exchanges: list[Exchange] = []
    ended = asyncio.Semaphore(0)
    connections = [await connect(address, lambda _: ended.release()) for _ in range(streams)]
    deadline_s = time.perf_counter() + seconds
    try:
        while time.perf_counter() < deadline_s:
            await asyncio.sleep(pause_s())
            for connection in connections:
                connection.send(request, reader())
            async with asyncio.timeout(timeout_s):
                for _ in connections:
                    await ended.acquire()
            for connection in connections:
                assert connection.exchange is not None
                exchanges.append(connection.exchange)
                connection.exchange = None
    finally:
        for connection in connections:
            connection.exchange = None
            connection.abort()
    return exchanges


class LagMeter:
    """How late this process's own loop runs: a late client reports its lateness as latency."""

    def __init__(self) -> None:
        self.lags_s: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "LagMeter":
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            due_s = time.perf_counter() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            self.lags_s.append(max(0.0, time.perf_counter() - due_s))
