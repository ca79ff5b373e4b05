"""Runs one engine's life: one task, one mailbox, the only writer of the engine's state."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

from serve.core.clock import Clock
from serve.core.errors import EngineError, EngineUnavailable, SetupError
from serve.engines.client import EngineClient
from serve.engines.events import (
    Attend,
    Doze,
    Effect,
    Event,
    Exited,
    Hung,
    Probe,
    Probed,
    Rouse,
    Send,
    Signal,
    SleepWanted,
    Slept,
    Spawn,
    Spawned,
    SpawnFailed,
    StartWanted,
    StopWanted,
    Sweep,
    Swept,
    Tick,
    Woke,
)
from serve.engines.jobs import Jobs
from serve.engines.launch import LaunchPlan
from serve.engines.lifecycle import step
from serve.engines.process import SWEEP_TIMEOUT_S, EngineEffects, EngineProcess
from serve.engines.progress import bounds_of
from serve.engines.states import Lifecycle, Phase, Policy, State, due_s
from serve.engines.status import EngineStatus, status_of, unavailable
from serve.engines.vigil import Vigil
from serve.settings.model import ServedModel

__all__ = ["EngineStatus", "EngineSupervisor"]

log = logging.getLogger("inhouse.engine")

STOP_GRACE_S: Final = 10.0
KILL_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Letter:
    """Mail: an event, or the failure of a job; `read` is set once it has been acted upon."""

    content: Event | Exception
    read: "asyncio.Future[None] | None" = None


class EngineSupervisor:
    """Keeps one model's engine in the state that is wanted.

    Call from one event loop, on the main thread (`serve.engines.mortality`).
    """

    def __init__(
        self,
        model: ServedModel,
        plan: LaunchPlan,
        effects: EngineEffects,
        clock: Clock,
        grace_s: float = STOP_GRACE_S,
        *,
        policy: Policy | None = None,
    ) -> None:
        self.model = model
        self._plan = plan
        self._effects = effects
        self._clock = clock
        self._grace_s = grace_s
        self._life = Lifecycle(policy or Policy(start_timeout_s=plan.ready_timeout_s))
        self._bounds = bounds_of(self._life.policy, counts_cpu=plan.computes_on_cpu)
        self._since_s = clock.monotonic_s()
        # Bounded by who posts: a process has five jobs at most, and a caller waits for its letter.
        self._mailbox: asyncio.Queue[_Letter] = asyncio.Queue()
        self._process: EngineProcess | None = None
        self._tail: tuple[str, ...] = ()
        self._frozen_since_s: float | None = None
        self._client: EngineClient | None = None
        self._subscribers: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._jobs = Jobs(self._post)  # a failure among them is a bug, and fails the supervisor
        self._asking: asyncio.Task[None] | None = None
        self._attending: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._timer_due_s: float | None = None

    @property
    def client(self) -> EngineClient | None:
        """The way to the present process while it is ready; another after each restart.

        None too while a ready one ends that has lost its core.
        """
        client = self._client
        if client is None or client.dying or self._life.state is not State.READY:
            return None
        return client

    @property
    def streams(self) -> int | None:
        """Requests that the engine works on at once, where its plan says so."""
        return self._plan.streams

    @property
    def start_timeout_s(self) -> float:
        """Within which a start ends, one way or the other."""
        return self._life.policy.start_timeout_s

    @property
    def status(self) -> EngineStatus:
        """The present state."""
        return status_of(self.model.id, self._life, self._since_s, self._clock.monotonic_s())

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back after each change of the status, on the event loop."""
        self._subscribers.append(callback)

    async def start(self) -> None:
        """Want the model; returns when its process has been started, not when it is ready."""
        await self._tell(StartWanted())

    async def sleep(self, level: int = 1) -> None:
        """Have a ready engine free its device; the next request wakes it (see SleepWanted)."""
        await self._tell(SleepWanted(level))

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Want the model no more; returns when its processes are gone.

        They have `drain_timeout_s` (`grace_s` where none is given) to end by themselves and are
        killed then. May be called at any time, again and at once.
        """
        grace_s = self._grace_s if drain_timeout_s is None else drain_timeout_s
        if self._task is not None or self._life.state is not State.STOPPED:
            await self._tell(StopWanted(grace_s))
        try:
            async with asyncio.timeout(grace_s + KILL_TIMEOUT_S + SWEEP_TIMEOUT_S):
                while self._life.state is State.STOPPED and self._life.phase is not Phase.NONE:
                    await self._changed.wait()
        except TimeoutError:
            # Still watched, for it may end yet.
            log.error("an engine survives SIGKILL", extra={"model": self.model.id})
            return
        if self._life.state is State.STOPPED:
            await self._end()

    async def wait_ready(self, timeout_s: float) -> None:
        """Return once the engine answers.

        Raises EngineUnavailable, with its reason and an honest `retry_after_s`: at once where
        the engine has failed, sleeps or is stopped, else after `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self._life.state is not State.READY:
                    if self._life.state is not State.STARTING:
                        raise self.unavailable()
                    await self._changed.wait()
        except TimeoutError:
            raise self.unavailable() from None

    def unavailable(self) -> EngineUnavailable:
        """Why there is no answer now, in words fit for a client."""
        return unavailable(self.model.id, self._life, self._clock.monotonic_s())

    # The mailbox

    async def _tell(self, event: Event) -> None:
        """Post an event and wait until it has been acted upon."""
        if self._task is None or self._task.done():
            self._mailbox = asyncio.Queue()
            self._task = asyncio.create_task(self._run(), name=f"engine {self.model.id}")
        task = self._task
        read = asyncio.get_running_loop().create_future()
        self._mailbox.put_nowait(_Letter(event, read))
        # A task that ends has read all the mail it will ever read.
        await asyncio.wait({read, task}, return_when=asyncio.FIRST_COMPLETED)

    def _post(self, content: Event | Exception) -> None:
        self._mailbox.put_nowait(_Letter(content))

    async def _run(self) -> None:
        try:
            while True:
                letter = await self._mailbox.get()
                if isinstance(letter.content, Exception):
                    raise letter.content
                await self._advance(letter.content)
                if letter.read is not None and not letter.read.done():
                    letter.read.set_result(None)
        except Exception as error:
            log.exception("the supervisor itself failed", extra={"model": self.model.id})
            await self._give_up(error)
        finally:
            # However this task ends, nobody would watch the engine any more.
            if self._process is not None and self._life.phase is Phase.LIVING:
                self._process.kill()

    async def _advance(self, event: Event) -> None:
        if isinstance(event, Tick):
            self._timer_due_s = None
        before = self._life
        self._life, effects = step(before, event, self._clock.monotonic_s())
        if self._life != before:
            self._record(before)
            self._publish()
        if self._life.state is not State.READY and self._attending is not None:
            self._attending.cancel()
            self._attending = None
        for effect in effects:
            await self._apply(effect)
        self._arm()

    def _record(self, before: Lifecycle) -> None:
        life = self._life
        about: dict[str, object] = {
            "model": self.model.id,
            "engine": self._plan.socket.stem,
            "state": life.state.value,
            "generation": life.generation,
        }
        if life.state is not before.state:
            self._since_s = self._clock.monotonic_s()
            log.info("engine %s", life.state, extra=about)
        told = (before.crashes, before.last_error) == (life.crashes, life.last_error)
        if life.last_error is None or told:
            return
        about["error"] = life.last_error
        if before.ready_s is None:  # it has served nobody: its words hold no one's prompt
            about["tail"] = self._tail
        level = logging.ERROR if life.state is State.FAILED else logging.WARNING
        log.log(level, "engine crashed", extra=about)

    def _publish(self) -> None:
        for callback in self._subscribers:
            try:
                callback()
            except Exception:
                # Who watches an engine must not be able to end it.
                log.exception("a subscriber failed", extra={"model": self.model.id})
        self._changed.set()
        self._changed = asyncio.Event()

    def _arm(self) -> None:
        """Have one timer, for the next time at which something is due."""
        due = due_s(self._life)
        if due == self._timer_due_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due_s = due
        self._timer = self._jobs.start(self._tick_at(due)) if due is not None else None

    async def _tick_at(self, due: float) -> None:
        await self._effects.pause(max(0.0, due - self._clock.monotonic_s()))
        self._post(Tick())

    # Effects

    async def _apply(self, effect: Effect) -> None:
        generation = effect.generation
        match effect:
            case Spawn():
                await self._spawn(generation)
            case Probe(_, after_s):
                self._asking = self._jobs.start(self._probe(generation, after_s))
            case Attend():
                self._attending = self._jobs.start(self._attend(generation))
            case Doze(_, level):
                self._asking = self._jobs.start(self._doze(generation, level))
            case Rouse(_, level):
                self._asking = self._jobs.start(self._rouse(generation, level))
            case Send(_, Signal.TERM) if self._process is not None:
                self._process.terminate()
            case Send(_, Signal.KILL) if self._process is not None:
                self._process.kill()
            case Sweep() if self._process is not None:
                await self._close_client()
                self._jobs.start(self._sweep(generation, self._process))
            case _:
                raise AssertionError(f"{effect} without a process")

    async def _spawn(self, generation: int) -> None:
        self._tail = ()
        self._frozen_since_s = None
        try:
            process = await self._effects.spawn(self._plan, self.model.id)
        except (OSError, SetupError) as error:
            self._process = None
            await self._advance(SpawnFailed(generation, f"cannot be started: {error}"))
            return
        self._process = process
        self._client = EngineClient(self._plan.socket)
        await self._advance(Spawned(generation, process.pid))
        self._jobs.start(self._watch(generation, process))

    async def _watch(self, generation: int, process: EngineProcess) -> None:
        self._post(Exited(generation, await process.exited()))

    async def _sweep(self, generation: int, process: EngineProcess) -> None:
        remains = await process.sweep()
        self._tail = remains.tail
        self._post(Swept(generation, remains.last_words, remains.survivors))

    async def _probe(self, generation: int, after_s: float) -> None:
        await self._effects.pause(after_s)
        if (client := self._client) is not None:
            error = await _error_of(self._effects.probe(client, self.model))
            frozen_s = 0.0 if error is None else await self._frozen_for_s()
            self._post(Probed(generation, error, frozen_s))

    async def _frozen_for_s(self) -> float:
        """For how long a signal has stopped a process of the engine, as the looks at it go."""
        if self._process is None or not (await self._process.vitals()).frozen:
            self._frozen_since_s = None
            return 0.0
        now_s = self._clock.monotonic_s()
        self._frozen_since_s = now_s if self._frozen_since_s is None else self._frozen_since_s
        return now_s - self._frozen_since_s

    async def _attend(self, generation: int) -> None:
        if (client := self._client) is not None and (process := self._process) is not None:
            vigil = Vigil(process, client, self.model, self._effects, self._clock, self._bounds)
            self._post(Hung(generation, await vigil.until_hung()))

    async def _doze(self, generation: int, level: int) -> None:
        if (client := self._client) is not None:
            self._post(Slept(generation, await _error_of(self._effects.doze(client, level))))

    async def _rouse(self, generation: int, level: int) -> None:
        if (client := self._client) is not None:
            self._post(Woke(generation, await _error_of(self._effects.rouse(client, level))))

    async def _close_client(self) -> None:
        """Have what runs on a dead process end at once, with an error."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # Ends

    async def _give_up(self, error: Exception) -> None:
        """After a bug: nobody is to wait for an engine that nobody watches."""
        words = f"the supervisor itself failed ({type(error).__name__}); the log says where"
        process, phase = self._process, self._life.phase
        self._life = replace(
            self._life, state=State.FAILED, last_error=words, backoff_until_s=None, ready_s=None
        )
        self._since_s = self._clock.monotonic_s()
        self._publish()
        await self._cancel_jobs()
        await self._close_client()
        if process is not None and phase is not Phase.NONE:
            process.kill()
            await process.exited()
            await process.sweep()
        self._life = replace(
            Lifecycle(self._life.policy),
            state=State.FAILED,
            generation=self._life.generation,
            restarts=self._life.restarts,
            last_error=words,
        )
        self._publish()

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        await self._cancel_jobs()
        await self._close_client()

    async def _cancel_jobs(self) -> None:
        await self._jobs.cancel()
        self._timer = self._timer_due_s = self._asking = self._attending = None


async def _error_of(asking: Coroutine[Any, Any, None]) -> str | None:
    try:
        await asking
    except EngineError as refused:
        return refused.message
    return None
