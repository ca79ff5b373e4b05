"""The supervisor in a world without processes, where time passes only when it is told to."""

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from serve.core.errors import EngineError, EngineUnavailable
from serve.engines.client import EngineClient
from serve.engines.launch import LaunchPlan
from serve.engines.process import Remains
from serve.engines.states import Policy, State
from serve.engines.supervisor import EngineSupervisor
from serve.engines.vitals import Vitals
from serve.settings.model import ModelConfig, ServedModel, Source

LONG_S = 3600.0
SELDOM = Policy(start_timeout_s=900, hang_idle_s=200, hang_loaded_s=600, progress_every_s=20)
"""Looks at progress seldom, for stories of hours."""


class World:
    """Time, processes and engines, as a test wants them; a clock and the effects in one."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.living: list[FakeProcess] = []
        self.unswept: list[FakeProcess] = []
        self.spawned: list[FakeProcess] = []
        self.probes = 0
        self.spawn_error: Exception | None = None
        self.on_probe: Callable[[], None] = lambda: None
        self.on_order: Callable[[str], None] = lambda _: None
        self.deaf = False
        self.words = "boom"
        self.vitals = Vitals(0.0, frozen=False)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    # the clock

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s

    async def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            at_s, _, sleeper = heapq.heappop(self._sleepers)
            self.now_s = max(self.now_s, at_s)
            if not sleeper.done():
                sleeper.set_result(None)
            await settle()
        self.now_s = until_s

    # the effects

    async def pause(self, delay_s: float) -> None:
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + delay_s, next(self._numbers), sleeper))
        await sleeper

    async def spawn(self, plan: LaunchPlan, label: str) -> "FakeProcess":
        assert not self.living, "two processes at once"
        assert not self.unswept, "the last one's remains hold its memory"
        await asyncio.sleep(0)
        if self.spawn_error is not None:
            raise self.spawn_error
        process = FakeProcess(self, 100 + len(self.spawned))
        self.spawned.append(process)
        return process

    async def probe(self, client: EngineClient, model: ServedModel) -> None:
        self.probes += 1
        await asyncio.sleep(0)
        self.on_probe()

    async def pulse(self, client: EngineClient, timeout_s: float) -> tuple[float, ...] | None:
        await asyncio.sleep(0)
        return None

    async def doze(self, client: EngineClient, level: int) -> None:
        await asyncio.sleep(0)
        self.on_order(f"doze {level}")

    async def rouse(self, client: EngineClient, level: int) -> None:
        await asyncio.sleep(0)
        self.on_order(f"rouse {level}")


class FakeProcess:
    def __init__(self, world: World, pid: int) -> None:
        self.world = world
        self.pid = pid
        self.signals: list[str] = []
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        world.living.append(self)

    def die(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)
            self.world.living.remove(self)
            self.world.unswept.append(self)

    async def exited(self) -> int:
        return await asyncio.shield(self._code)

    def terminate(self) -> None:
        self.signals.append("term")
        if not self.world.deaf:
            self.die(0)

    def kill(self) -> None:
        self.signals.append("kill")
        self.die(-9)

    async def vitals(self) -> Vitals:
        return self.world.vitals

    async def sweep(self) -> Remains:
        assert self._code.done()
        await asyncio.sleep(0)
        self.world.unswept.remove(self)
        return Remains(self.world.words, (self.world.words,), 0)


async def settle() -> None:
    """Let everything run that can run without time passing."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    while loop._ready:  # type: ignore[attr-defined]  # noqa: ASYNC110
        await asyncio.sleep(0)


def model(name: str = "small", **placement: Any) -> ServedModel:
    config = ModelConfig(name=name, source=Source(path=Path("none")), context_tokens=128)
    return ServedModel(config=config, **placement)


def supervisor(
    world: World, served: ServedModel | None = None, policy: Policy | None = None
) -> EngineSupervisor:
    plan = LaunchPlan(("engine",), {}, Path("engine.sock"), Path(), 900.0)
    return EngineSupervisor(served or model(), plan, world, world, 30.0, policy=policy)


def refuse() -> None:
    raise EngineError("no")


def play(story: Callable[[World, EngineSupervisor], Coroutine[Any, Any, None]]) -> None:
    """Run a story to its end; it must leave no process and no task behind."""

    async def main() -> None:
        world = World()
        engine = supervisor(world)
        await story(world, engine)
        world.deaf = False
        await engine.stop(0)
        assert not world.living
        assert not world.unswept
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


async def begin(world: World, engine: EngineSupervisor) -> EngineClient:
    """Start, and wait until ready."""
    await engine.start()
    await world.pass_time(0.25)
    assert engine.status.state is State.READY
    assert engine.client is not None
    return engine.client


def test_a_start_returns_before_the_engine_is_ready() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await engine.start()
        assert (engine.status.state, engine.status.pid) == (State.STARTING, 100)
        assert engine.client is None
        await begin(world, engine)
        await engine.wait_ready(0)
        assert engine.status.since_s == 1000.25

    play(story)


def test_a_waiter_is_told_when_the_engine_is_ready() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await engine.start()
        waiting = asyncio.create_task(engine.wait_ready(LONG_S))
        await settle()
        assert not waiting.done()
        await world.pass_time(1)
        assert waiting.done()
        await waiting

    play(story)


def test_a_crash_is_followed_by_another_process_with_another_client() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        first = await begin(world, engine)
        world.spawned[0].die(-9)
        await settle()
        assert engine.client is None
        with pytest.raises(EngineError):
            await first.get("/health", 1)
        status = engine.status
        assert (status.state, status.pid, status.next_start_in_s) == (State.STARTING, None, 1)
        assert status.last_error == "killed by signal 9: boom"
        await world.pass_time(1.25)
        assert engine.status.state is State.READY
        assert engine.client not in (None, first)
        assert (engine.status.restarts, engine.status.generation) == (1, 2)

    play(story)


def test_in_flight_requests_end_before_the_sweep_does() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        first = await begin(world, engine)
        process = world.spawned[0]
        finish = asyncio.Event()
        sweep = process.sweep

        async def slow_sweep() -> Remains:
            await finish.wait()
            return await sweep()

        process.sweep = slow_sweep  # type: ignore[method-assign]
        process.die(1)
        await settle()
        with pytest.raises(EngineError):
            await first.get("/health", 1)
        await world.pass_time(100)
        assert len(world.spawned) == 1, "the remains still hold the memory"
        finish.set()
        await world.pass_time(1)
        assert len(world.spawned) == 2

    play(story)


def test_five_failed_starts_are_enough_and_a_start_begins_anew() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        def die() -> None:
            world.living[0].die(1)
            refuse()

        world.on_probe = die
        await engine.start()
        waiting = asyncio.create_task(engine.wait_ready(LONG_S))
        await world.pass_time(100)
        assert len(world.spawned) == 5
        assert engine.status.state is State.FAILED
        assert engine.status.last_error == "ended by itself with exit code 1: boom"
        with pytest.raises(EngineUnavailable, match="could not be started") as caught:
            await waiting
        assert caught.value.retry_after_s == 60
        assert "boom" not in caught.value.message, "an engine's words are not for clients"
        world.on_probe = lambda: None
        await begin(world, engine)

    play(story)


def test_a_configuration_error_is_not_tried_again() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await engine.start()
        world.living[0].die(3)
        await world.pass_time(1000)
        assert (len(world.spawned), engine.status.state) == (1, State.FAILED)

    play(story)


def test_a_start_that_takes_too_long_is_killed_and_tried_again() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        world.on_probe = refuse
        await engine.start()
        await world.pass_time(900.5)
        assert world.spawned[0].signals == ["kill"]
        assert engine.status.last_error == "not ready within 900 s: no: boom"
        await world.pass_time(1)
        assert len(world.spawned) == 2

    play(story)


def test_what_cannot_be_spawned_is_tried_again() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        world.spawn_error = OSError("no memory")
        await engine.start()
        assert engine.status.last_error == "cannot be started: no memory"
        assert engine.status.pid is None
        world.spawn_error = None
        await world.pass_time(1.25)
        assert engine.status.state is State.READY

    play(story)


def test_a_deaf_engine_is_killed_after_its_grace() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await begin(world, engine)
        world.deaf = True
        stopping = asyncio.create_task(engine.stop(20))
        again = asyncio.create_task(engine.stop(20))
        await world.pass_time(19)
        assert world.spawned[0].signals == ["term"]
        assert engine.client is None
        await world.pass_time(1)
        assert world.spawned[0].signals[1] == "kill"
        await asyncio.gather(stopping, again)
        assert engine.status.state is State.STOPPED

    play(story)


def test_stopping_twice_and_before_a_start_does_nothing() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await engine.stop()
        await begin(world, engine)
        await engine.stop()
        await engine.stop()
        assert engine.status.state is State.STOPPED
        with pytest.raises(EngineUnavailable, match="is stopped"):
            await engine.wait_ready(LONG_S)

    play(story)


def test_a_stopped_engine_starts_again() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await begin(world, engine)
        await engine.stop()
        await begin(world, engine)
        assert engine.status.restarts == 0

    play(story)


def test_a_start_during_a_stop_wins() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await begin(world, engine)
        world.deaf = True
        stopping = asyncio.create_task(engine.stop(20))
        await settle()
        await engine.start()
        await world.pass_time(21)
        await stopping
        assert engine.status.state is State.READY
        assert len(world.spawned) == 2

    play(story)


def test_the_wait_ends_with_an_honest_time_to_ask_again() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        world.on_probe = refuse
        await engine.start()
        await world.pass_time(39)
        world.on_probe = lambda: None
        await world.pass_time(1)
        world.spawned[0].die(1)
        while engine.status.state is State.READY:  # noqa: ASYNC110 - one step at a time
            await asyncio.sleep(0)
        with pytest.raises(EngineUnavailable, match="is restarting after a crash"):
            await engine.wait_ready(0)  # its remains are not swept yet
        await settle()
        with pytest.raises(EngineUnavailable, match="is restarting after a crash") as caught:
            await engine.wait_ready(0)
        assert caught.value.retry_after_s == pytest.approx(40, abs=1)

    play(story)


@pytest.mark.parametrize("level", [1, 2])
def test_a_sleeping_engine_is_woken_by_its_start(level: int) -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        orders: list[str] = []
        world.on_order = orders.append
        await begin(world, engine)
        await engine.sleep(level)
        await settle()
        assert engine.status.state is State.SLEEPING
        assert engine.client is None
        with pytest.raises(EngineUnavailable):
            await engine.wait_ready(LONG_S)
        await engine.start()
        await asyncio.gather(engine.wait_ready(LONG_S), world.pass_time(1))
        assert orders == [f"doze {level}", f"rouse {level}"]
        assert len(world.spawned) == 1

    play(story)


def test_an_engine_that_will_not_sleep_goes_on_serving() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        world.on_order = lambda _: refuse()
        await begin(world, engine)
        await engine.sleep()
        await world.pass_time(1)
        assert engine.status.state is State.READY
        assert world.spawned[0].signals == []

    play(story)


def test_one_start_serves_all_who_wait() -> None:
    async def main() -> None:
        world = World()
        engine = supervisor(world, model(load="on_demand"))
        await asyncio.gather(*(engine.start() for _ in range(20)))
        waits = [engine.wait_ready(LONG_S) for _ in range(20)]
        await asyncio.gather(*waits, world.pass_time(1))
        assert len(world.spawned) == 1
        await engine.stop()
        with pytest.raises(EngineUnavailable):
            await engine.wait_ready(LONG_S)

    asyncio.run(main())


def test_subscribers_see_each_change_and_cannot_do_harm(caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        seen: list[State] = []

        def broken() -> None:
            raise ZeroDivisionError

        engine.subscribe(broken)
        engine.subscribe(lambda: seen.append(engine.status.state))
        await begin(world, engine)
        await engine.stop()
        changes = [state for state, _ in itertools.groupby(seen)]
        assert changes == [State.STARTING, State.READY, State.STOPPED]

    play(story)
    assert "a subscriber failed" in caplog.text


@pytest.mark.parametrize("place", ["effect", "job"])
def test_a_bug_of_ours_is_seen_and_leaves_nothing_running(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        def bug() -> None:
            raise ZeroDivisionError

        if place == "job":
            world.on_probe = bug
            await engine.start()
            process = world.spawned[0]
        else:
            await begin(world, engine)
            process = world.spawned[0]
            process.terminate = bug  # type: ignore[method-assign]
            await engine.stop()
            process.terminate = lambda: None  # type: ignore[method-assign]
        if place == "job":
            waiting = asyncio.create_task(engine.wait_ready(LONG_S))
            await world.pass_time(1)
            with pytest.raises(EngineUnavailable):
                await waiting
        assert engine.status.state is State.FAILED
        assert "ZeroDivisionError" in (engine.status.last_error or "")
        assert process.signals[-1] == "kill"
        world.on_probe = lambda: None
        await begin(world, engine)

    play(story)
    assert "the supervisor itself failed" in caplog.text


def test_a_cancelled_supervisor_takes_its_engine_with_it() -> None:
    world = World()

    async def main() -> None:
        await begin(world, supervisor(world))

    asyncio.run(main())  # cancels what is left, as a gateway that fails does
    assert world.spawned[0].signals == ["kill"]


def test_words_of_an_engine_that_has_served_are_not_all_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await engine.start()
        world.living[0].die(1)
        await world.pass_time(1.25)
        world.living[0].die(1)
        await settle()

    with caplog.at_level(logging.WARNING, "inhouse.engine"):
        play(story)
    crashes = [r.__dict__ for r in caplog.records if r.getMessage() == "engine crashed"]
    assert ["tail" in crash for crash in crashes] == [True, False]
    assert all(crash["model"] == "small" for crash in crashes)


# Hangs


async def silence(world: World) -> None:
    """From now on no probe is answered."""
    probe = world.probe

    async def unanswered(client: EngineClient, model: ServedModel) -> None:
        await world.pause(LONG_S)

    world.probe = unanswered  # type: ignore[method-assign]
    while len(world.spawned) < 2:
        await world.pass_time(0.5)
    world.probe = probe  # type: ignore[method-assign]


def test_an_idle_engine_that_answers_no_probe_is_replaced_within_ten_seconds() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await begin(world, engine)
        await world.pass_time(300)
        assert world.spawned[0].signals == []
        begun_s = world.now_s
        await silence(world)
        assert world.spawned[0].signals == ["kill"]
        assert world.now_s - begun_s <= 10 + 1, "one second of backoff"
        assert engine.status.hangs == 1
        assert (engine.status.last_error or "").startswith("hung: idle, without computing")
        await world.pass_time(1)
        assert (engine.status.state, engine.status.restarts) == (State.READY, 1)

    play(story)


def test_an_engine_that_refuses_every_probe_is_replaced_and_says_why() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await begin(world, engine)
        world.on_probe = refuse
        await world.pass_time(10)
        assert world.spawned[0].signals == ["kill"]
        assert "one-token request (no)" in (engine.status.last_error or "")

    play(story)


def test_a_signal_that_stops_a_start_is_found_long_before_its_timeout() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        def refuse() -> None:
            raise EngineError("no socket yet")

        world.on_probe = refuse
        await engine.start()
        await world.pass_time(20)
        assert world.spawned[0].signals == [], "it starts, however long that takes"
        world.vitals = Vitals(0.0, frozen=True)
        await world.pass_time(5)
        world.vitals = Vitals(0.0, frozen=False)
        await world.pass_time(10)
        assert world.spawned[0].signals == [], "it went on"
        world.vitals = Vitals(0.0, frozen=True)
        await world.pass_time(10.5)
        assert world.spawned[0].signals == ["kill"]
        assert "stopped by a signal" in (engine.status.last_error or "")

    play(story)


def test_a_sleeping_engine_is_let_sleep() -> None:
    async def story(world: World, engine: EngineSupervisor) -> None:
        await begin(world, engine)
        await engine.sleep()
        await settle()
        asked = world.probes
        world.vitals = Vitals(0.0, frozen=True)
        await world.pass_time(100)
        assert world.probes == asked
        assert world.spawned[0].signals == []

    play(story)


def test_the_plan_s_idle_bound_is_the_policy_s() -> None:
    async def main() -> None:
        world = World()
        engine = supervisor(world, policy=SELDOM)
        await begin(world, engine)
        begun_s = world.now_s
        await silence(world)
        assert 100 < world.now_s - begun_s <= 201
        await engine.stop()

    asyncio.run(main())


# Any order


async def chaos(seed: int) -> World:
    """Thirty random turns; the world itself checks that no two processes ever live at once."""
    dice = random.Random(seed)
    world = World()
    engine = supervisor(world, policy=SELDOM)
    callers: set[asyncio.Task[None]] = set()

    def whim() -> None:
        if dice.random() < 0.4:
            refuse()

    def call(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        callers.add(task)

    world.on_probe = whim
    world.on_order = lambda _: whim()
    for _ in range(30):
        match dice.randrange(8):
            case 0 | 1:
                call(engine.start())
            case 2:
                call(engine.stop(dice.choice([0, 5, 30])))
            case 3:
                call(engine.sleep())
            case 4 | 5 if world.living:
                world.living[0].die(dice.choice([-9, -11, 0, 1, 1, 3]))
            case 6:
                world.spawn_error = OSError("no") if dice.random() < 0.3 else None
            case 7:
                world.deaf = not world.deaf
        if dice.random() < 0.7:
            await world.pass_time(dice.choice([0, 0.25, 1, 5, 70, 901]))
        assert (engine.client is not None) == (engine.status.state is State.READY)
    world.on_probe = lambda: None
    world.on_order = lambda _: None
    world.spawn_error = None
    await world.pass_time(40)
    await engine.start()
    await world.pass_time(1100)
    assert engine.status.state is State.READY, "wanted in a kind world, it is ready in the end"
    stopping = asyncio.create_task(engine.stop(5))
    await world.pass_time(40)
    await asyncio.wait_for(asyncio.gather(stopping, *callers), 1)
    assert engine.status.state is State.STOPPED
    return world


def run_chaos(seeds: range) -> int:
    async def main() -> int:
        spawned = 0
        for seed in seeds:
            try:
                world = await chaos(seed)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise
            assert not world.living
            assert not world.unswept
            assert asyncio.all_tasks() == {asyncio.current_task()}
            spawned += len(world.spawned)
        return spawned

    return asyncio.run(main())


def test_any_order_of_calls_and_deaths() -> None:
    assert run_chaos(range(100)) > 300


@pytest.mark.long
def test_any_order_of_calls_and_deaths_at_length() -> None:
    assert run_chaos(range(100, 2500)) > 7_500


def test_the_policy_bounds_a_start() -> None:
    engine = EngineSupervisor(
        model(),
        LaunchPlan(("engine",), {}, Path("engine.sock"), Path(), 900.0),
        World(),
        World(),
        policy=Policy(start_timeout_s=7),
    )
    assert engine.start_timeout_s == 7
