"""The engines of a site on the memory there is: the one writer of what is loaded.

`serve.engines.planner` decides; this carries it out on the supervisors, measures what engines
really take, and is where an operator's orders, and changes of the site, come in.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from serve.core.clock import Clock
from serve.core.errors import EngineUnavailable, ModelNotFound, SetupError
from serve.engines.jobs import Jobs
from serve.engines.measurement import Gauge, Measurement
from serve.engines.memory import NOTHING, REMEDY, Amounts, Footprint, Need, minus, plus
from serve.engines.planner import RULES, Action, Posture, Rules, Verb, held, misfit, plan
from serve.engines.records import Records
from serve.engines.resident import Resident
from serve.engines.standby import StandbyPool
from serve.engines.standing import Standing
from serve.engines.states import State
from serve.engines.status import RETRY_FAILED_S, EngineStatus

log = logging.getLogger("inhouse.engine")

EVICT_GRACE_S: Final = 5.0
"""What an engine that nobody uses has to end by itself."""
MEASURE_EVERY_S: Final = 60.0
ORDER_MARGIN_S: Final = 600.0
"""What a load that was ordered may wait for room, beside its own time."""
QUIET_S: Final = 0.25
"""An engine that is removed goes once no request has used it for so long."""

Work = Callable[[], Coroutine[Any, Any, None]]


class Observer(Protocol):
    """Who counts what happens to the models."""

    def model_loaded(self, model_id: str, verb: str, took_s: float) -> None:
        """It has been loaded or woken (`load`, `wake`) and answers."""

    def model_evicted(self, model_id: str, verb: str) -> None:
        """It is being stopped or put to sleep (`stop`, `sleep`) for lack of memory or of use."""


class Portfolio:
    """All engines of a site, in the order of its file. Call from one event loop."""

    def __init__(
        self,
        residents: Iterable[Resident],
        capacity: Amounts,
        clock: Clock,
        *,
        records: Records | None = None,
        gauge: Gauge | None = None,
        observer: Observer | None = None,
        standbys: StandbyPool | None = None,
        rules: Rules = RULES,
    ) -> None:
        self.capacity = capacity
        self.observer = observer
        self._clock = clock
        self._measurement = Measurement(records, gauge)
        self._standbys = standbys
        self._rules = rules
        self._residents: dict[str, Resident] = {}
        self._states: dict[str, State] = {}
        self._jobs = Jobs(self._job_failed)
        self._running = False
        self._scheduled = False
        self._hungry = False
        self._timer: asyncio.TimerHandle | None = None
        for one in residents:
            self.add(one)

    # What is there

    def residents(self) -> tuple[Resident, ...]:
        """All engines."""
        return tuple(self._residents.values())

    def statuses(self) -> tuple[EngineStatus, ...]:
        """The present state of each engine."""
        return tuple(one.status for one in self._residents.values())

    def snapshot(self) -> tuple[Standing, ...]:
        """Each engine's place in the memory, for an operator."""
        return tuple(one.standing() for one in self._residents.values())

    def waiting(self) -> dict[str, int]:
        """Requests that wait for each model."""
        counts: dict[str, int] = {}
        for one in self._residents.values():
            counts[one.model.id] = counts.get(one.model.id, 0) + one.waiting
        return counts

    def held(self) -> Amounts:
        """What all engines together take, or may take, at this moment."""
        total: Amounts = NOTHING
        for one in self._residents.values():
            total = plus(total, held(one.tenant()))
        return total

    def free(self) -> Amounts:
        """What is left of the memory for engines."""
        return minus(self.capacity, self.held())

    # Changes of the site

    def misfit(self, adding: Iterable[Resident] = (), without: Iterable[str] = ()) -> str | None:
        """Why the models that must be there together are not all going to fit, with the figures.

        They are those that are pinned or loaded at startup; and each other one has to fit beside
        those that are pinned.
        """
        gone = set(without)
        there = [one for key, one in self._residents.items() if key not in gone]
        all_ = [*there, *adding]
        firm = [one.tenant() for one in all_ if one.model.pin or one.model.load == "startup"]
        why = misfit(firm, self.capacity)
        if why is not None:
            return f"the models that are pinned or loaded at startup do not fit together: {why}"
        pinned = [one.tenant() for one in all_ if one.model.pin]
        for one in all_:
            if one.model.pin:
                continue
            why = misfit([one.tenant(), *pinned], self.capacity)
            if why is not None:
                return f"{one.model.id} does not fit beside the pinned models: {why}"
        return None

    def check(self) -> None:
        """Raise SetupError where `misfit` says that the site cannot be served."""
        why = self.misfit()
        if why is not None:
            raise SetupError(f"{why}; {REMEDY}")

    def add(self, resident: Resident) -> None:
        """Have one more engine; it is loaded when a request, or `load`, wants it."""
        if resident.key in self._residents:
            raise ValueError(f"two engines of the key {resident.key}")
        self._residents[resident.key] = resident
        self._states[resident.key] = resident.supervisor.status.state
        resident.attach(self.nudge, self._on_idle, self._changed)
        self._measurement.recall(resident)
        self.nudge()

    async def remove(self, key: str, drain_timeout_s: float) -> None:
        """Let the requests end that have, or still want, this engine, then stop and forget it.

        Publish its successor first: what comes later is refused. Requests that have not ended
        after `drain_timeout_s` end with an error.
        """
        one = self._one(key)
        one.retiring = True
        try:
            async with asyncio.timeout(drain_timeout_s):
                while one.in_use or one.waiting:
                    await one.until_idle()
                    await asyncio.sleep(QUIET_S)
        except TimeoutError:
            log.warning(
                "requests outlast the draining",
                extra={"model": one.model.id, "in_use": one.in_use, "waiting": one.waiting},
            )
        one.close("has been replaced on this server; ask again", retry_after_s=1.0)
        await self._stop(one)
        one.detach()
        del self._residents[key], self._states[key]
        self.nudge()

    # Life

    async def start(self) -> None:
        """Begin to load every model that is loaded at startup; returns at once."""
        if self._running:
            return
        self._running = True
        now_s = self._clock.monotonic_s()
        for one in self._residents.values():
            if one.model.load == "startup":
                one.ordered_since_s = now_s
        if self._standbys is not None:
            self._standbys.start(self._engine_starts)
        if self._measurement.possible:
            self._jobs.start(self._measure_all())
        self.nudge()

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Stop every engine; returns when no process is left."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        await self._jobs.cancel()
        if self._standbys is not None:
            await self._standbys.stop()
        for one in self._residents.values():
            one.close("is being stopped with this server")
        stops = (one.supervisor.stop(drain_timeout_s) for one in self._residents.values())
        await asyncio.gather(*stops)

    # An operator's orders

    async def load(self, key: str) -> None:
        """Have it ready, whatever it was before; raises EngineUnavailable where it cannot be."""
        one = self._one(key)
        one.close(None)
        timeout_s = one.supervisor.start_timeout_s + ORDER_MARGIN_S
        (await one.summon(timeout_s)).release()

    async def sleep(self, key: str) -> None:
        """Have it free its device, or stop where it cannot sleep; the next request brings it back.

        What runs on it ends first.
        """
        one = self._one(key)
        one.hold_back()
        try:
            await one.until_idle()
            if one.posture is Posture.AWAKE and one.need.asleep is not None:
                one.move(Posture.DOZING)
                await self._carry_out(one, lambda: self._doze(one))
            elif one.posture is not Posture.ASLEEP:
                await self._stop(one)
        finally:
            one.go_on()

    async def drain(self, key: str) -> None:
        """Give it no new request, let what runs on it end, then stop it until `load`."""
        one = self._one(key)
        one.close("has been stopped by the operator of this server")
        await one.until_idle()
        await self._stop(one)

    async def restart(self, key: str) -> None:
        """Replace its process; what runs ends first, what comes meanwhile waits."""
        one = self._one(key)
        one.hold_back()
        try:
            await one.until_idle()
            await self._stop(one)
        finally:
            one.go_on()
        await self.load(key)

    def _one(self, key: str) -> Resident:
        try:
            return self._residents[key]
        except KeyError:
            raise ModelNotFound(f"No engine {key!r} is on this machine.", param="model") from None

    # The plan

    def nudge(self) -> None:
        """Something has changed: plan anew, once all that happens now has happened."""
        if self._running and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._step)

    def _on_idle(self) -> None:
        if self._hungry:
            self.nudge()

    def _step(self) -> None:
        self._scheduled = False
        if not self._running:
            return
        now_s = self._clock.monotonic_s()
        tenants = [one.tenant() for one in self._residents.values()]
        made = plan(tenants, self.capacity, now_s, self._rules)
        # Whether the end of a request may matter to anybody but its client.
        self._hungry = bool(made.draining) or any(
            one.wanted_since_s is not None and one.posture is not Posture.AWAKE for one in tenants
        )
        for key, why in made.refused.items():
            one = self._residents[key]
            error = f"{one.model.id} does not fit the memory of this server: {why}"
            log.error("%s", error, extra={"model": one.model.id})
            one.turn_away(EngineUnavailable(error, retry_after_s=RETRY_FAILED_S))
        for action in made.actions:
            self._do(action)
        # After the actions: who is drained until it goes must not be let in in between.
        for key, one in self._residents.items():
            if one.draining != (key in made.draining):
                one.drain(key in made.draining)
        self._look_again(made.look_again_s, now_s)

    def _look_again(self, due_s: float | None, now_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, due_s - now_s), self.nudge)

    def _do(self, action: Action) -> None:
        one = self._residents[action.key]
        about = {"model": one.model.id, "made_for": action.made_for}
        log.info("%s", action.verb, extra=about)
        match action.verb:
            case Verb.LOAD:
                one.begins(waking=False)
                self._begin(one, Posture.LOADING, one.supervisor.start)
            case Verb.WAKE:
                one.begins(waking=True)
                self._begin(one, Posture.WAKING, one.supervisor.start)
            case Verb.SLEEP:
                self._begin(one, Posture.DOZING, lambda: self._doze(one))
            case Verb.STOP:
                self._begin(one, Posture.LEAVING, lambda: one.supervisor.stop(EVICT_GRACE_S))
        if action.verb in (Verb.SLEEP, Verb.STOP):
            one.evictions += 1
            if self.observer is not None:
                self.observer.model_evicted(one.model.id, action.verb)

    def _begin(self, one: Resident, posture: Posture, work: Work) -> None:
        """Do it beside the caller. The engine is in its new posture at once, so that no request
        slips in between."""
        one.move(posture)
        self._jobs.start(self._carry_out(one, work))

    async def _carry_out(self, one: Resident, work: Work) -> None:
        try:
            await work()
        finally:
            one.moved()
            self.nudge()

    async def _stop(self, one: Resident) -> None:
        one.move(Posture.LEAVING)
        await self._carry_out(one, lambda: one.supervisor.stop(EVICT_GRACE_S))

    async def _doze(self, one: Resident) -> None:
        generation = one.supervisor.status.generation
        await one.supervisor.sleep(one.need.sleep_level)
        while (status := one.supervisor.status).turning:
            await one.changed()
        if status.state is State.SLEEPING:
            await self._measure(one, asleep=True)
        elif status.generation == generation and status.pid is not None:
            log.warning("an engine cannot sleep", extra={"model": one.model.id})
            one.need = Need(one.need.awake)

    # What engines do

    def _changed(self, one: Resident) -> None:
        status = one.supervisor.status
        before, self._states[one.key] = self._states.get(one.key), status.state
        if status.state is not before:
            match status.state:
                case State.READY:
                    self._is_ready(one)
                case State.FAILED:
                    one.has_failed()
                case State.STARTING if before is State.SLEEPING and status.pid is None:
                    # It died asleep: what is wanted next is for the plan to say.
                    self._begin(one, Posture.LEAVING, lambda: one.supervisor.stop(0.0))
        self.nudge()

    def _is_ready(self, one: Resident) -> None:
        verb = one.is_ready()
        if verb is not None and self.observer is not None:
            self.observer.model_loaded(one.model.id, verb, one.swap_s or 0.0)
        if self._running:
            self._jobs.start(self._measure(one))

    def _engine_starts(self) -> bool:
        return any(one.state is State.STARTING and one.pid is not None for one in self.statuses())

    def _job_failed(self, error: Exception) -> None:
        log.error("a step of the plan failed", exc_info=error)

    # Measuring

    def foresee(self, footprint: Footprint) -> tuple[Need, float | None]:
        """See `Measurement.foresee`."""
        return self._measurement.foresee(footprint)

    async def _measure_all(self) -> None:
        """Look at engines again and again: what they take grows with what they are asked."""
        while True:
            await asyncio.sleep(MEASURE_EVERY_S)
            for one in self.residents():
                await self._measure(one)

    async def _measure(self, one: Resident, *, asleep: bool = False) -> None:
        if await self._measurement.take(one, asleep=asleep):
            self.nudge()
