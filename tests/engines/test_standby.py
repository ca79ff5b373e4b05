"""The pool of waiting processes, with fake engines that are real processes."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from serve.core.clock import SystemClock
from serve.engines import standby as module
from serve.engines.launch import LaunchPlan, fake_plan
from serve.engines.mortality import session_members
from serve.engines.process import SystemEffects, private_directory
from serve.engines.standby import StandbyPool, kind_of
from serve.engines.states import Policy, State
from serve.engines.supervisor import EngineSupervisor
from serve.settings.model import ModelConfig, ServedModel, Source
from tests.supervised import play, until

QUICK = Policy(start_timeout_s=20, backoff_first_s=0.02, probe_every_s=0.02)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(module, "PAUSE_FIRST_S", 0.05)


def model(name: str) -> ServedModel:
    config = ModelConfig(name=name, source=Source(path=Path("none")), context_tokens=8192)
    return ServedModel(config=config)


def fake(tmp_path: Path, name: str = "small") -> LaunchPlan:
    run_dir = private_directory(tmp_path / "run")
    plan = fake_plan(model(name), (), run_dir=run_dir, environ=os.environ)
    return replace(plan, env={**plan.env, "INHOUSE_ENGINE": name})


def supervisor(plan: LaunchPlan, pool: StandbyPool, name: str = "small") -> EngineSupervisor:
    return EngineSupervisor(model(name), plan, SystemEffects(pool), SystemClock(), policy=QUICK)


def test_an_engine_comes_from_a_standby_and_the_pool_fills_again(tmp_path: Path) -> None:
    async def story() -> None:
        plan = fake(tmp_path)
        pool = StandbyPool(1, tmp_path / "run")
        pool.keep([plan])
        pool.start()
        await until(lambda: pool.warm == 1)
        waiting = pool._warm[0].process.pid
        engine = supervisor(plan, pool)
        await engine.start()
        assert engine.status.pid == waiting
        await engine.wait_ready(20)
        assert engine.client is not None
        await engine.client.probe_ready("small", "generate", 5)
        await until(lambda: pool.warm == 1)
        assert pool._warm[0].process.pid != waiting
        await engine.stop()
        assert session_members(waiting) == []
        left = pool._warm[0].process.pid
        await pool.stop()
        assert session_members(left) == []
        assert [path.name for path in (tmp_path / "run").glob("*.sock")] == []

    play(story())


def test_a_standby_becomes_only_what_it_was_started_for(tmp_path: Path) -> None:
    async def story() -> None:
        plan = fake(tmp_path)
        other = replace(fake(tmp_path, "other"), env={**plan.env, "LD_PRELOAD": ""})
        script = replace(plan, argv=(plan.argv[0], "-c", "pass"))
        assert kind_of(plan) == kind_of(fake(tmp_path, "other"))
        assert kind_of(script) is None
        pool = StandbyPool(1, tmp_path / "run")
        pool.keep([plan, script])
        pool.start()
        await until(lambda: pool.warm == 1)
        assert pool.take(other) is None
        assert pool.take(script) is None
        first = pool._warm[0].process.pid
        pool.keep([other])
        await until(lambda: bool(pool._warm) and pool._warm[0].process.pid != first)
        assert session_members(first) == []
        assert pool.take(plan) is None
        await pool.stop()

    play(story())


def test_the_kinds_of_a_site_share_the_pool(tmp_path: Path) -> None:
    async def story() -> None:
        plan = fake(tmp_path)
        other = replace(plan, env={**plan.env, "OMP_NUM_THREADS": "1"})
        pool = StandbyPool(2, tmp_path / "run")
        pool.keep([plan, other])
        pool.start()
        await until(lambda: pool.warm == 2)
        assert {one.kind for one in pool._warm} == {kind_of(plan), kind_of(other)}
        assert {one.slot for one in pool._warm} == {0, 1}
        await pool.stop()

    play(story())


def test_nothing_is_begun_while_an_engine_starts(tmp_path: Path) -> None:
    async def story() -> None:
        plan = fake(tmp_path)
        pool = StandbyPool(1, tmp_path / "run")
        pool.keep([plan])
        slow = replace(plan, argv=(*plan.argv, "--start-delay-s=0.5"))
        engine = EngineSupervisor(
            model("small"), slow, SystemEffects(pool), SystemClock(), policy=QUICK
        )
        pool.start(lambda: engine.status.state is State.STARTING)
        await engine.start()
        async with asyncio.timeout(10):
            while engine.status.state is not State.READY:
                assert pool.warm == 0
                await asyncio.sleep(0.01)
        await until(lambda: pool.warm == 1)
        waiting = pool._warm[0].process.pid
        await pool.stop()
        await engine.stop()
        assert session_members(waiting) == []

    play(story())


def test_a_standby_that_dies_is_replaced_and_the_engine_started_afresh(tmp_path: Path) -> None:
    async def story() -> None:
        plan = fake(tmp_path)
        pool = StandbyPool(1, tmp_path / "run")
        pool.keep([plan])
        pool.start()
        await until(lambda: pool.warm == 1)
        lost = pool._warm[0]
        lost.line.close()  # as if it had just gone
        engine = supervisor(plan, pool)
        await engine.start()
        assert engine.status.pid != lost.process.pid
        await engine.wait_ready(20)
        assert engine.status.restarts == 0
        await until(lambda: pool.warm == 1)
        second = pool._warm[0].process
        os.kill(second.pid, signal.SIGKILL)
        await until(lambda: pool.warm == 1 and pool._warm[0].process is not second)
        third = pool._warm[0].process
        os.kill(third.pid, signal.SIGSTOP)
        await until(lambda: not pool.warm)
        assert pool.take(plan) is None, "it would take the order and never act on it"
        await until(lambda: pool.warm == 1)
        assert session_members(third.pid) == []
        await engine.stop()
        await pool.stop()

    play(story())


def test_standbys_that_never_become_warm_are_tried_less_and_less(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        plan = fake(tmp_path)
        pool = StandbyPool(1, tmp_path / "run")
        pool.keep([replace(plan, argv=(plan.argv[0], "-m", "json.tool"))])
        pool.start()
        await until(lambda: len(caplog.records) >= 2)
        await pool.stop()

    play(story())
    assert "it ended before it was warm" in caplog.records[0].getMessage()
    assert caplog.records[1].getMessage().endswith("again in 0 s")


def test_none_are_kept_by_default(tmp_path: Path) -> None:
    async def story() -> None:
        pool = StandbyPool(0, tmp_path)
        pool.keep([fake(tmp_path)])
        pool.start()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await pool.stop()

    asyncio.run(story())
