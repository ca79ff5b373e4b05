"""The portfolio on a machine in virtual time: stories of one rule each, and random histories."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serve.core.errors import EngineUnavailable, ModelNotFound, SetupError
from serve.engines.memory import GIB, HOST, NOTHING, Footprint, Need
from serve.engines.planner import Posture
from serve.engines.portfolio import Portfolio
from serve.engines.records import Records
from serve.engines.resident import Held, Resident
from serve.engines.states import State
from tests.engines.machine import CALL, Machine, cpu, gpu, portfolio, resident, run_virtually

ROOM = {HOST: 10 * GIB}


def play(
    needs: dict[str, Need],
    story: Callable[[Machine, Portfolio, dict[str, Resident]], Awaitable[None]],
    *,
    room: dict[str, int] = ROOM,
    waiting_max: int = 64,
    **placements: dict[str, Any],
) -> None:
    """Tell a story of these models; afterwards nothing of it may be left."""

    async def main() -> None:
        machine = Machine(room, needs)
        models = {
            name: resident(machine, name, waiting_max=waiting_max, **placements.get(name, {}))
            for name in needs
        }
        engines = portfolio(machine, *models.values())
        await engines.start()
        await story(machine, engines, models)
        await engines.stop(0)
        assert machine.overtaken == []
        assert not machine.held
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(main())


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def claim(one: Resident, timeout_s: float = 300.0) -> Held:
    return await one.claim(CALL, timeout_s)


async def use(one: Resident, seconds: float, timeout_s: float = 300.0) -> None:
    """One request: it waits for the engine, and uses it for so long."""
    held = await claim(one, timeout_s)
    await asyncio.sleep(seconds)
    held.release()


def postures(models: dict[str, Resident]) -> dict[str, str]:
    return {name: one.posture.value for name, one in models.items()}


# Loading


def test_startup_models_are_loaded_one_after_another_and_the_others_when_asked_for() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        await asyncio.sleep(1)
        assert postures(models) == {"a": "loading", "b": "absent", "c": "absent"}
        await asyncio.sleep(12)
        assert postures(models) == {"a": "awake", "b": "absent", "c": "awake"}
        (await claim(models["b"])).release()
        assert models["b"].posture is Posture.AWAKE
        assert engines.residents()[1].model is models["b"].model

    start = {"load": "startup"}
    play({"a": cpu(2), "b": cpu(2), "c": cpu(2)}, story, a=start, c=start)


def test_the_next_is_loaded_where_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        machine.refuse_start.add("a")
        with caplog.at_level(logging.CRITICAL):
            await asyncio.sleep(300)
        assert [one.state for one in engines.statuses()] == ["failed", "ready"]
        with pytest.raises(EngineUnavailable, match="could not be started"):
            await claim(models["a"])

    play({"a": cpu(2), "b": cpu(2)}, story, a={"load": "startup"}, b={"load": "startup"})


def test_all_who_want_one_model_share_one_load() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        requests = [asyncio.create_task(use(models["a"], 1)) for _ in range(20)]
        await asyncio.sleep(1)
        assert (models["a"].waiting, engines.waiting()) == (20, {"a": 20})
        await asyncio.gather(*requests)
        assert machine.spawned("a") == 1
        assert now_s() < 8

    play({"a": cpu(2)}, story)


def test_so_many_may_wait_and_no_more() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        requests = [asyncio.create_task(use(models["a"], 1)) for _ in range(3)]
        await asyncio.sleep(1)
        with pytest.raises(EngineUnavailable, match="3 requests wait for it already") as refused:
            await claim(models["a"])
        assert 1 <= refused.value.retry_after_s <= 10
        await asyncio.gather(*requests)
        (await claim(models["a"])).release()

    play({"a": cpu(2)}, story, waiting_max=3)


def test_a_wait_ends_at_its_bound_with_an_honest_answer() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        with pytest.raises(EngineUnavailable, match="a is starting; try again in"):
            await claim(models["a"], 2)
        assert now_s() == 2
        await asyncio.sleep(10)
        held = await claim(models["a"])
        with pytest.raises(EngineUnavailable, match="waits for memory that other models use"):
            await claim(models["b"], 1)
        held.release()

    play({"a": cpu(8), "b": cpu(8)}, story)


def test_who_leaves_while_waiting_leaves_nothing_behind() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        waits = asyncio.create_task(claim(models["a"]))
        await asyncio.sleep(1)
        waits.cancel()
        await asyncio.sleep(10)
        assert (models["a"].in_use, models["a"].waiting) == (0, 0)
        # Cancelled in the very turn in which it is let in.
        await engines.sleep("a")
        late = asyncio.create_task(claim(models["a"]))
        models["a"].supervisor.subscribe(lambda: models["a"].client and late.cancel())
        await asyncio.sleep(10)
        assert late.cancelled()
        assert models["a"].in_use == 0

    play({"a": cpu(2)}, story)


# Making room


def test_a_swap_serves_both_and_loses_nothing() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        for _ in range(3):
            await use(models["a"], 1)
            await use(models["b"], 1)
        assert (machine.spawned("a"), machine.spawned("b")) == (3, 3)
        assert models["a"].evictions == 3 or models["b"].evictions == 2
        assert models["a"].status.resting

    play({"a": cpu(8), "b": cpu(8)}, story)


def test_one_in_use_is_drained_first_and_what_comes_for_it_waits_its_turn() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        first = await claim(models["a"])
        process = machine.processes["a"][0]
        process.on_term = lambda: pytest.fail("it was stopped while in use")
        other = asyncio.create_task(claim(models["b"]))
        await asyncio.sleep(60)
        assert models["a"].draining
        late = asyncio.create_task(claim(models["a"]))
        await asyncio.sleep(60)
        assert not other.done()
        assert not late.done()
        process.on_term = lambda: None
        first.release()
        held = await other
        assert postures(models) == {"a": "absent", "b": "awake"}
        held.release()
        (await late).release()
        assert postures(models) == {"a": "awake", "b": "absent"}

    play({"a": cpu(8), "b": cpu(8)}, story)


def test_draining_ends_where_who_waited_has_gone() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        first = await claim(models["a"])
        with pytest.raises(EngineUnavailable):
            await asyncio.gather(claim(models["b"], 30), after(20, lambda: claim(models["a"], 100)))
        await asyncio.sleep(1)
        assert not models["a"].draining
        assert models["a"].in_use == 2
        first.release()

    async def after(delay_s: float, what: Callable[[], Awaitable[Held]]) -> Held:
        await asyncio.sleep(delay_s)
        return await what()

    play({"a": cpu(8), "b": cpu(8)}, story)


def test_under_a_steady_load_of_two_swapping_is_the_lesser_part() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        served = dict.fromkeys(models, 0)

        async def client(name: str) -> None:
            while now_s() < 600:
                await use(models[name], 2)
                served[name] += 1

        await asyncio.gather(*(client(name) for name in models for _ in range(4)))
        loads = machine.spawned("a") + machine.spawned("b")
        assert 10 <= loads <= 45, "each turn is at least twice as long as a load"
        assert min(served.values()) > 250

    play({"a": cpu(8), "b": cpu(8)}, story)


def test_a_device_is_freed_by_sleep_and_taken_again_by_waking() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        await use(models["a"], 1)
        await use(models["b"], 1)
        assert postures(models) == {"a": "asleep", "b": "awake"}
        began_s = now_s()
        await use(models["a"], 0)
        assert now_s() - began_s < 3, "waking is no load"
        assert machine.spawned("a") == 1
        assert models["a"].status.state is State.READY

    play({"a": gpu(8), "b": gpu(8)}, story, room={HOST: 20 * GIB, "gpu0": 10 * GIB})


def test_one_that_refuses_to_sleep_is_stopped_instead(caplog: pytest.LogCaptureFixture) -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        machine.refuse_doze.add("a")
        await use(models["a"], 1)
        await use(models["b"], 1)
        assert postures(models) == {"a": "absent", "b": "awake"}
        assert "cannot sleep" in caplog.text

    play({"a": gpu(8), "b": gpu(8)}, story, room={HOST: 20 * GIB, "gpu0": 10 * GIB})


def test_one_that_dies_asleep_does_not_come_back_into_memory_that_is_taken() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        await use(models["a"], 1)
        held = await claim(models["b"])
        machine.kill("a")
        await asyncio.sleep(30)
        assert postures(models) == {"a": "absent", "b": "awake"}
        held.release()
        await use(models["a"], 1)

    play({"a": gpu(8), "b": gpu(8)}, story, room={HOST: 20 * GIB, "gpu0": 10 * GIB})


def test_one_that_crashes_in_use_keeps_its_place_and_comes_back() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        held = await claim(models["a"])
        machine.kill("a")
        await asyncio.sleep(1)
        again = asyncio.create_task(models["a"].claim(CALL, 100, held.client))
        held.release()
        (await again).release()
        assert machine.spawned("a") == 2

    play({"a": cpu(8), "b": cpu(8)}, story)


def test_idle_ones_rest_after_their_time_and_metrics_do_not_count() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        await use(models["a"], 100)
        await asyncio.sleep(55)
        assert models["a"].posture is Posture.AWAKE
        for _ in range(10):  # what a scrape asks for
            assert models["a"].status.state in State
            assert engines.snapshot()[0].key == "a"
            _ = models["a"].client
            await asyncio.sleep(1)
        assert models["a"].posture is Posture.ABSENT
        assert models["a"].client is None
        await asyncio.sleep(100)
        assert machine.spawned("a") == 1

    play({"a": cpu(2)}, story, a={"idle_sleep_s": 60})


# Who can never fit


def test_who_cannot_fit_beside_the_pinned_is_refused_with_the_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        with pytest.raises(EngineUnavailable, match=r"b 4\.0 GiB.*a 8\.0 GiB"):
            await claim(models["b"])
        assert now_s() == 0

    with caplog.at_level(logging.CRITICAL):
        play({"a": cpu(8), "b": cpu(4)}, story, a={"pin": True})


def test_a_site_that_cannot_fit_is_refused_by_name() -> None:
    async def main() -> None:
        machine = Machine(ROOM, {"a": cpu(6), "b": cpu(6), "c": cpu(9)})
        start = {"load": "startup"}
        both = [resident(machine, name, **start) for name in ("a", "b")]
        with pytest.raises(SetupError, match=r"12\.0 GiB.*needed, 10\.0.*\(a 6\.0.*; b 6\.0"):
            portfolio(machine, *both).check()
        pinned = resident(machine, "a", pin=True)
        with pytest.raises(SetupError, match="c does not fit beside the pinned models"):
            portfolio(machine, pinned, resident(machine, "c")).check()
        fits = portfolio(machine, resident(machine, "a"), resident(machine, "c"))
        fits.check()
        assert fits.misfit([resident(machine, "b")], without=["c"]) is None
        both_firm = fits.misfit([resident(machine, "b", pin=True)], without=["c"])
        assert both_firm is not None
        assert both_firm.startswith("a does not fit beside the pinned models: 12.0 GiB")

    run_virtually(main())


# Orders


def test_orders_load_sleep_drain_and_restart() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        await engines.load("a")
        assert models["a"].posture is Posture.AWAKE
        await engines.sleep("a")
        assert models["a"].posture is Posture.ASLEEP
        await use(models["a"], 1)
        held = await claim(models["a"])
        restart = asyncio.create_task(engines.restart("a"))
        await asyncio.sleep(5)
        assert machine.spawned("a") == 1
        waits = asyncio.create_task(claim(models["a"]))
        held.release()
        await restart
        (await waits).release()
        assert machine.spawned("a") == 2
        await engines.drain("a")
        assert models["a"].posture is Posture.ABSENT
        with pytest.raises(EngineUnavailable, match="stopped by the operator"):
            await claim(models["a"])
        await engines.load("a")
        (await claim(models["a"])).release()
        with pytest.raises(ModelNotFound):
            await engines.load("b")

    play({"a": gpu(8)}, story, room={HOST: 20 * GIB, "gpu0": 10 * GIB})


def test_an_order_to_load_what_has_failed_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        machine.refuse_start.add("a")
        with caplog.at_level(logging.CRITICAL), pytest.raises(EngineUnavailable):
            await engines.load("a")
        assert models["a"].status.state is State.FAILED
        machine.refuse_start.clear()
        await engines.load("a")
        assert models["a"].status.state is State.READY

    play({"a": cpu(2)}, story)


# Changes of the site


def test_the_new_beside_the_old_and_the_old_goes_when_its_requests_have_ended() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        old = models["a"]
        held = await claim(old)
        machine.needs["new"] = cpu(4)
        new = resident(machine, "new")
        engines.add(new)
        await engines.load("new")
        with pytest.raises(ValueError, match="two engines of the key new"):
            engines.add(new)
        removal = asyncio.create_task(engines.remove("a", 60))
        await asyncio.sleep(10)
        assert not removal.done()
        late = await claim(old)  # it was resolved before the new one was published
        held.release()
        await asyncio.sleep(1)
        late.release()
        await removal
        assert [one.key for one in engines.residents()] == ["new"]
        with pytest.raises(EngineUnavailable, match="replaced") as refused:
            await claim(old)
        assert refused.value.retry_after_s == 1

    play({"a": cpu(4)}, story)


def test_a_removal_ends_at_its_bound(caplog: pytest.LogCaptureFixture) -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        held = await claim(models["a"])
        began_s = now_s()
        await engines.remove("a", 20)
        assert 20 <= now_s() - began_s < 22
        assert "outlast" in caplog.text
        held.release()

    play({"a": cpu(4)}, story)


def test_a_placement_changes_under_a_running_engine() -> None:
    async def story(machine: Machine, engines: Portfolio, models: dict[str, Resident]) -> None:
        await use(models["a"], 1)
        models["a"].model = models["a"].model.model_copy(update={"pin": True})
        engines.nudge()
        with pytest.raises(EngineUnavailable, match="does not fit"):
            await claim(models["b"])
        assert engines.snapshot()[0].pinned

    play({"a": cpu(8), "b": cpu(8)}, story)


# Measuring


async def test_what_engines_are_found_to_take_is_planned_with_and_kept(tmp_path: Any) -> None:
    machine = Machine(ROOM, {"a": cpu(6), "b": cpu(6)}, load_s=0.0)
    path = tmp_path / "memory.json"

    def engines() -> tuple[Portfolio, list[Resident]]:
        both = [resident(machine, name) for name in "ab"]
        for one in both:
            one.footprint = Footprint(one.need, one.key, kv_bytes=GIB)
        found = {HOST: 2 * GIB}
        records = Records(path)
        return portfolio(machine, *both, records=records, gauge=lambda *_: found), both

    first, (a, b) = engines()
    machine.needs |= {"a": cpu(2), "b": cpu(2)}
    await first.start()
    await first.load("a")
    async with asyncio.timeout(5):
        while not a.measured:  # noqa: ASYNC110 - a thread looks
            await asyncio.sleep(0.01)
    assert a.need == Need({HOST: 2 * GIB})
    assert not b.measured
    await first.load("b")
    assert first.snapshot()[0].posture is Posture.AWAKE, "both fit, now that one was measured"
    await first.stop(0)

    second, (a, b) = engines()
    assert a.measured
    assert second.snapshot()[0].need == Need({HOST: 2 * GIB})
    assert a.load_s is not None


# Random histories


class Chaos:
    """Requests, crashes, orders and changes of the site at random, for a while."""

    def __init__(self, seed: int) -> None:
        self.random = rand = random.Random(seed)
        names = [f"m{at}" for at in range(rand.randint(2, 5))]
        on_gpu = rand.random() < 0.5
        needs = {
            name: gpu(rand.randint(2, 9), rand.randint(2, 6)) if on_gpu else cpu(rand.randint(1, 9))
            for name in names
        }
        self.machine = Machine({HOST: 10 * GIB, "gpu0": 10 * GIB}, needs, rand.choice([1.0, 8.0]))
        self.models = {name: resident(self.machine, name, **self._placed()) for name in names}
        self.portfolio = portfolio(self.machine, *self.models.values())
        while self.portfolio.misfit() is not None:
            self.models[rand.choice(names)].model = resident(self.machine, names[0]).model
            for name, one in self.models.items():
                if rand.random() < 0.3:
                    one.model = resident(self.machine, name).model
        self.served = self.refused = 0
        self.stopped_in_use: list[str] = []
        self.left: list[str] = []
        """Models that requests still have, or wait for, after the last request has ended."""

    def _placed(self) -> dict[str, Any]:
        rand = self.random
        return {
            "pin": rand.random() < 0.1,
            "load": rand.choice(["startup", "on_demand", "on_demand"]),
            "idle_sleep_s": rand.choice([None, None, 30]),
        }

    async def run(self) -> None:
        await self.portfolio.start()
        work = [self._client() for _ in range(12)] + [self._operator(), self._fate()]
        await asyncio.gather(*work)
        self.machine.refuse_start.clear()
        self.machine.refuse_doze.clear()
        for name in self.models:
            await self.portfolio.load(name)
            (await claim(self.models[name], 60)).release()
        self.left = [key for key, one in self.models.items() if one.in_use or one.waiting]
        await self.portfolio.stop(0)

    async def _client(self) -> None:
        rand = self.random
        while now_s() < 400:
            await asyncio.sleep(rand.expovariate(1 / 6))
            one = self.models[rand.choice(list(self.models))]
            try:
                held = await one.claim(CALL, rand.choice([1.0, 60.0, 300.0]))
            except EngineUnavailable as refused:
                self.refused += 1
                assert 1 <= refused.retry_after_s <= 300
                continue
            process = self.machine.processes[one.key][-1]
            assert one.supervisor.client is held.client
            process.on_term = lambda name=one.key: self._stopped(name)
            await asyncio.sleep(rand.expovariate(1 / rand.choice([0.5, 10])))
            held.release()
            self.served += 1

    def _stopped(self, name: str) -> None:
        if self.models[name].in_use:
            self.stopped_in_use.append(name)

    async def _operator(self) -> None:
        rand = self.random
        while now_s() < 400:
            await asyncio.sleep(rand.expovariate(1 / 25))
            name = rand.choice(list(self.models))
            order = rand.choice([self.portfolio.load, self.portfolio.sleep, self.portfolio.restart])
            try:
                async with asyncio.timeout(120):
                    await order(name)
            except (EngineUnavailable, TimeoutError):
                self.refused += 1

    async def _fate(self) -> None:
        rand = self.random
        while now_s() < 400:
            await asyncio.sleep(rand.expovariate(1 / 30))
            name = rand.choice(list(self.models))
            match rand.randrange(4):
                case 0 | 1:
                    self.machine.kill(name)
                case 2:
                    self.machine.refuse_doze.add(name)
                case 3:
                    self.machine.refuse_start.add(name)
                    await asyncio.sleep(rand.choice([1, 40]))
                    self.machine.refuse_start.discard(name)


@pytest.mark.parametrize("seed", range(12))
def test_no_history_takes_memory_twice_or_an_engine_from_who_uses_it(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> Chaos:
        chaos = Chaos(seed)
        await chaos.run()
        return chaos

    with caplog.at_level(logging.CRITICAL):
        chaos = run_virtually(main())
    assert chaos.machine.overtaken == []
    assert chaos.served > 50
    assert chaos.stopped_in_use == []
    assert chaos.left == []
    assert not chaos.machine.held


def test_nothing_is_known_of_an_engine_without_a_footprint() -> None:
    async def main() -> None:
        machine = Machine(ROOM, {"a": cpu(2)})
        plain = Resident(resident(machine, "a").supervisor)
        assert (plain.need.awake, plain.measured) == (NOTHING, False)

    run_virtually(main())
