"""The backend of one engine on this machine, and what the portfolio knows of it.

A request holds the engine by a claim. One that finds it not ready waits here, with all others
that want it, and all of them are let in at once when it is: one load serves them all.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Final

from serve.core.call import Call
from serve.core.errors import EngineUnavailable
from serve.engines.client import EngineClient
from serve.engines.memory import NOTHING, Footprint, Need
from serve.engines.planner import Posture, Tenant, Verb, held
from serve.engines.standing import Standing
from serve.engines.states import RETRY_FIRST_GUESS_S, State
from serve.engines.status import RETRY_FAILED_S, EngineStatus
from serve.engines.supervisor import EngineSupervisor
from serve.settings.model import ServedModel

DEATH_NOTICED_S: Final = 0.5
"""Within which the end of a process is noticed once its connections are gone."""
WAITING_MAX: Final = 64
NO_FOOTPRINT: Final = Footprint(Need(NOTHING))


class Held:
    """A claim on a resident engine."""

    __slots__ = ("_resident", "client")

    def __init__(self, resident: "Resident", client: EngineClient) -> None:
        self._resident = resident
        self.client = client

    def release(self) -> None:
        self._resident.leave()


_Told = asyncio.Future[Held | EngineUnavailable]


class Resident:
    """One supervised engine, and who uses it or waits for it.

    `key` tells it apart from every other engine of the portfolio. Only the portfolio moves it
    between its conditions; requests come in by `claim`.
    """

    def __init__(
        self,
        supervisor: EngineSupervisor,
        footprint: Footprint = NO_FOOTPRINT,
        *,
        key: str | None = None,
        waiting_max: int = WAITING_MAX,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.supervisor = supervisor
        self.model: ServedModel = supervisor.model
        """What it serves, and what the site says of that now."""
        self.key = key or supervisor.model.id
        self.footprint = footprint
        self.need = footprint.estimate
        self.measured = False
        self.load_s: float | None = None
        self.swap_s: float | None = None
        self.loads = self.evictions = 0
        self.in_use = 0
        self.waiting_max = waiting_max
        self.open = True
        """Requests may begin; else they wait."""
        self.closed: str | None = None
        """Why requests are refused, in words for a client."""
        self._closed_s = RETRY_FAILED_S
        self.ordered_since_s: float | None = None
        """Since when it is wanted, whether a request waits or not."""
        self.draining = False
        self.retiring = False
        self.rested = False
        """It is not there because the plan had no place for it, or nobody asked."""
        self._moves: list[Posture] = []  # begun, and perhaps not to be seen in its state yet
        self._left = Posture.AWAKE
        self._waking = False
        self._held_back = 0
        self._change = asyncio.Event()
        self._began_s: float | None = None
        self._clock_s = clock_s
        self._ready_since_s = clock_s()
        self.last_used_s = clock_s()
        self._waiters: dict[_Told, float] = {}  # since when each waits, the oldest first
        self._idle = asyncio.Event()
        self.detach()
        supervisor.subscribe(self._has_changed)

    # The backend

    @property
    def status(self) -> EngineStatus:
        status = self.supervisor.status
        guess_s = status.ready_in_s
        if guess_s is not None and status.state in (State.STOPPED, State.SLEEPING):
            guess_s = self.load_s or guess_s
        return replace(status, resting=self.rested, ready_in_s=guess_s)

    @property
    def client(self) -> EngineClient | None:
        return self.supervisor.client

    def subscribe(self, callback: Callable[[], None]) -> None:
        self.supervisor.subscribe(callback)

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Held:
        """See `serve.engines.backend.Backend.claim`."""
        if avoid is not None:
            await self._let_die(avoid)
        client = self.supervisor.client
        if client is not None and self.open:
            return self._enter(client)
        return await self._wait(timeout_s)

    def leave(self) -> None:
        """One request has ended."""
        self.in_use -= 1
        self.last_used_s = self._clock_s()
        if not self.in_use:
            self._idle.set()
            self._on_idle()

    def _enter(self, client: EngineClient) -> Held:
        if not self.in_use:
            self._idle.clear()
        self.in_use += 1
        return Held(self, client)

    async def _let_die(self, client: EngineClient) -> None:
        """Give the supervisor the moment it needs to notice that an engine has died.

        Where it has not, only this connection was lost, and the same engine is asked again.
        """
        deadline_s = self._clock_s() + DEATH_NOTICED_S
        while (  # noqa: ASYNC110 - half a second at most, once in an engine's life
            self.supervisor.client is client and self._clock_s() < deadline_s
        ):
            await asyncio.sleep(0.01)

    # Waiting

    @property
    def waiting(self) -> int:
        """Requests that wait for it."""
        return len(self._waiters)

    async def _wait(self, timeout_s: float) -> Held:
        if self.closed is not None or self.supervisor.status.state is State.FAILED:
            raise self.unavailable()
        if len(self._waiters) >= self.waiting_max:
            raise self._full()
        return await self.summon(timeout_s)

    async def summon(self, timeout_s: float) -> Held:
        """Wait for it, whatever its state; raises EngineUnavailable where there is no hope."""
        told: _Told = asyncio.get_running_loop().create_future()
        self._waiters[told] = self._clock_s()
        self.let_in()
        self._nudge()
        try:
            await asyncio.wait({told}, timeout=timeout_s)
        except asyncio.CancelledError:
            if told.done() and isinstance(entered := told.result(), Held):
                entered.release()
            raise
        finally:
            if self._waiters.pop(told, None) is not None:
                self._nudge()
        answer = told.result() if told.done() else self.unavailable()
        if isinstance(answer, EngineUnavailable):
            raise answer
        return answer

    def let_in(self) -> None:
        """Give all who wait their claim, where the engine can answer."""
        client = self.supervisor.client
        if client is None or not self.open:
            return
        waiters, self._waiters = self._waiters, {}
        for told in waiters:
            told.set_result(self._enter(client))

    def turn_away(self, error: EngineUnavailable) -> None:
        """Tell all who wait that there is no hope; nobody wants it any more."""
        self.ordered_since_s = None
        waiters, self._waiters = self._waiters, {}
        for told in waiters:
            told.set_result(error)

    def unavailable(self) -> EngineUnavailable:
        """Why there is no answer now, in words fit for a client, and when to ask again."""
        if self.closed is not None:
            return EngineUnavailable(f"{self.model.id} {self.closed}", retry_after_s=self._closed_s)
        status = self.status
        if status.state in (State.FAILED, State.STARTING) and not self.draining:
            return self.supervisor.unavailable()
        guess_s = self.load_s or RETRY_FIRST_GUESS_S
        return EngineUnavailable(
            f"{self.model.id} waits for memory that other models use; try again in {guess_s:.0f} s",
            retry_after_s=guess_s,
        )

    def _full(self) -> EngineUnavailable:
        guess_s = self.status.ready_in_s or RETRY_FIRST_GUESS_S
        return EngineUnavailable(
            f"{self.model.id} is being loaded and {len(self._waiters)} requests wait for it "
            f"already; try again in {guess_s:.0f} s",
            retry_after_s=guess_s,
        )

    # For the portfolio

    def attach(
        self,
        nudge: Callable[[], None],
        on_idle: Callable[[], None],
        on_change: "Callable[[Resident], None]",
    ) -> None:
        """Have `nudge` called when the plan may change, `on_idle` when the last request ends,
        `on_change` when the engine's status has changed."""
        self._nudge, self._on_idle, self._on_change = nudge, on_idle, on_change

    def detach(self) -> None:
        """Tell nobody any more."""
        self.attach(_nothing, _nothing, _nothing)

    def _has_changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
        self._on_change(self)

    @property
    def posture(self) -> Posture:
        """What it is to the memory now."""
        if self._moves:
            return self._moves[-1]
        status = self.supervisor.status
        match status.state:
            case State.READY:
                return Posture.AWAKE
            case State.STARTING:
                return Posture.WAKING if self._waking else Posture.LOADING
            case State.SLEEPING:
                return Posture.DOZING if status.turning else Posture.ASLEEP
            case _:
                # One that survives SIGKILL keeps its memory.
                return Posture.ABSENT if status.pid is None else Posture.LEAVING

    def tenant(self) -> Tenant:
        """Itself as the plan sees it."""
        status = self.supervisor.status
        since = list(islice(self._waiters.values(), 1))
        if self.ordered_since_s is not None:
            since.append(self.ordered_since_s)
        return Tenant(
            key=self.key,
            need=self.need,
            posture=self.posture,
            pinned=self.model.pin and not self.retiring,
            in_use=self.in_use,
            wanted_since_s=min(since, default=None),
            last_used_s=self.last_used_s,
            ready_since_s=self._ready_since_s,
            load_s=self.load_s or 0.0,
            idle_sleep_s=self.model.idle_sleep_s,
            draining=self.draining,
            ailing=status.state is State.STARTING and status.last_error is not None,
            left=self._left,
        )

    def standing(self) -> Standing:
        """Itself as an operator sees it."""
        tenant = self.tenant()
        return Standing(
            key=self.key,
            model_id=self.model.id,
            posture=tenant.posture,
            pinned=tenant.pinned,
            draining=self.draining or not self.open,
            memory=held(tenant),
            need=self.need,
            measured=self.measured,
            in_use=self.in_use,
            waiting=self.waiting,
            idle_s=0.0 if self.in_use else self._clock_s() - self.last_used_s,
            swap_s=self.swap_s,
            loads=self.loads,
            evictions=self.evictions,
        )

    def begins(self, *, waking: bool) -> None:
        """It is being loaded, or woken, from now on."""
        self._waking = waking
        self._began_s = self._clock_s()

    def move(self, posture: Posture) -> None:
        """It is on its way there until `moved`, and no new request begins on it."""
        if posture is Posture.LEAVING and self.posture is not Posture.LEAVING:
            self._left = self.posture
        self._moves.append(posture)
        if posture in (Posture.DOZING, Posture.LEAVING):
            self.rested = True
        self.hold_back()

    def moved(self) -> None:
        """One `move` has ended."""
        self._moves.pop()
        self.go_on()

    async def changed(self) -> None:
        """Return at the next change of its status."""
        await self._change.wait()

    def is_ready(self) -> Verb | None:
        """Note that it answers, and let in who waits; which order this ends, if any."""
        ended = None
        if self._began_s is not None:
            ended = Verb.WAKE if self._waking else Verb.LOAD
            self.swap_s = self._clock_s() - self._began_s
            if not self._waking:
                self.load_s = self.swap_s
            self.loads += 1
        self._began_s = None
        self._waking = self.rested = False
        self.ordered_since_s = None
        self._ready_since_s = self.last_used_s = self._clock_s()
        self.let_in()
        return ended

    def has_failed(self) -> None:
        """Note that it will not come up by itself, and say so to who waits."""
        self._began_s, self._waking, self.rested = None, False, False
        self.turn_away(self.unavailable())

    def drain(self, draining: bool) -> None:
        """Have new requests wait, or let them in again."""
        self.draining = draining
        self._reopen()

    def hold_back(self) -> None:
        """Have new requests wait until `go_on`."""
        self._held_back += 1
        self._reopen()

    def go_on(self) -> None:
        """The end of one `hold_back`."""
        self._held_back -= 1
        self._reopen()

    def _reopen(self) -> None:
        self.open = not self.draining and not self._held_back and self.closed is None
        self.let_in()

    def close(self, why: str | None, retry_after_s: float = RETRY_FAILED_S) -> None:
        """Refuse requests for this reason; None: take them again."""
        self.closed, self._closed_s = why, retry_after_s
        self._reopen()
        if why is not None:
            self.turn_away(self.unavailable())

    async def until_idle(self) -> None:
        """Return once no request uses it."""
        while self.in_use:
            await self._idle.wait()


def _nothing(*_: object) -> None:
    """Nobody listens."""
