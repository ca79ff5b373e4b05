"""Engines and gateways that die: what is left, and what comes back."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from serve.core.clock import SystemClock
from serve.core.errors import EngineError, EngineUnavailable
from serve.engines.launch import LaunchPlan, fake_plan
from serve.engines.mortality import session_members
from serve.engines.process import SystemEffects, private_directory
from serve.engines.states import Policy, State
from serve.engines.supervisor import EngineSupervisor
from serve.settings.model import ModelConfig, ServedModel, Source
from tests.supervised import play, until

QUICK = Policy(start_timeout_s=20, backoff_first_s=0.02, probe_every_s=0.02)


def model() -> ServedModel:
    return ServedModel(
        config=ModelConfig(name="small", source=Source(path=Path("none")), context_tokens=8192)
    )


def supervisor(plan: LaunchPlan) -> EngineSupervisor:
    return EngineSupervisor(model(), plan, SystemEffects(), SystemClock(), policy=QUICK)


def fake(tmp_path: Path, *knobs: str) -> EngineSupervisor:
    run_dir = private_directory(tmp_path / "run")
    return supervisor(fake_plan(model(), knobs, run_dir=run_dir, environ=os.environ))


def script(tmp_path: Path, code: str) -> EngineSupervisor:
    run_dir = private_directory(tmp_path / "run")
    argv = (sys.executable, "-S", "-c", code)
    return supervisor(LaunchPlan(argv, {}, run_dir / "small.sock", run_dir, 20.0))


def test_a_killed_engine_is_replaced_and_answers_again(tmp_path: Path) -> None:
    async def story() -> None:
        engine = fake(tmp_path)
        await engine.start()
        await engine.wait_ready(20)
        first = engine.status
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: engine.status.state is not State.READY)
        await engine.wait_ready(20)
        second = engine.status
        assert second.pid != first.pid
        assert (second.generation, second.restarts) == (2, 1)
        assert engine.client is not None
        await engine.client.probe_ready("small", "generate", 5)
        await engine.stop()

    play(story())


def test_requests_in_flight_end_when_their_engine_is_killed(tmp_path: Path) -> None:
    async def story() -> None:
        engine = fake(tmp_path, "--ttft-ms", "60000")
        engine._effects.probe = answered  # type: ignore[method-assign]
        await engine.start()
        await engine.wait_ready(20)
        assert engine.client is not None
        assert engine.status.pid is not None
        body = orjson.dumps({"prompt": "hi", "model": "small"})
        await until((tmp_path / "run" / "small.sock").exists)
        asking = asyncio.create_task(engine.client.post("/v1/completions", body))
        await asyncio.sleep(0.05)
        assert not asking.done()
        begun_s = time.monotonic()
        os.kill(engine.status.pid, signal.SIGKILL)
        with pytest.raises(EngineError):
            await asking
        assert time.monotonic() - begun_s < 1
        await engine.stop()

    async def answered(*_: object) -> None:
        return None

    play(story())


def test_a_stopped_engine_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    async def story() -> None:
        engine = fake(tmp_path)
        await engine.start()
        await engine.wait_ready(20)
        pid = engine.status.pid
        assert pid is not None
        assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "small.sock"]
        await asyncio.gather(engine.stop(5), engine.stop(5))
        assert session_members(pid) == []
        assert list((tmp_path / "run").iterdir()) == []
        assert (engine.status.state, engine.status.last_error) == (State.STOPPED, None)

    play(story())


def test_five_crashes_at_start_fail_with_the_last_words(tmp_path: Path) -> None:
    async def story() -> None:
        engine = script(
            tmp_path, "import sys; print('loading', flush=True); sys.exit('no such weights')"
        )
        await engine.start()
        with pytest.raises(EngineUnavailable, match="could not be started"):
            await engine.wait_ready(20)
        status = engine.status
        assert (status.state, status.generation) == (State.FAILED, 5)
        assert status.last_error == "ended by itself with exit code 1: no such weights"
        await engine.stop()

    play(story())


def test_a_configuration_error_is_not_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        engine = script(tmp_path, "import sys; print('bad flag', file=sys.stderr); sys.exit(3)")
        await engine.start()
        with pytest.raises(EngineUnavailable):
            await engine.wait_ready(20)
        assert engine.status.generation == 1
        assert (engine.status.last_error or "").endswith("bad flag")
        await engine.stop()

    play(story())


GATEWAY = """
import asyncio, sys
from pathlib import Path
from serve.core.clock import SystemClock
from serve.engines.launch import LaunchPlan
from serve.engines.process import SystemEffects, private_directory
from serve.engines.supervisor import EngineSupervisor
from serve.settings.model import ModelConfig, ServedModel, Source

async def main():
    run_dir = private_directory(Path(sys.argv[1]))
    model = ServedModel(
        config=ModelConfig(name="small", source=Source(path=Path("none")), context_tokens=128)
    )
    plan = LaunchPlan((sys.executable, "-c", sys.argv[2]), {"PYTHONPATH": sys.argv[3]},
                      run_dir / "small.sock", run_dir, 60.0)
    engine = EngineSupervisor(model, plan, SystemEffects(), SystemClock())
    await engine.start()
    print(engine.status.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""

# As vLLM's processes do: each asks for itself, and all are deaf to SIGTERM.
ENGINE = """
import os, signal, time
from serve.engines.mortality import die_with_parent
die_with_parent()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(2):
    parent = os.getpid()
    if os.fork() == 0:
        die_with_parent(parent)
        if os.fork() == 0:
            die_with_parent()
        break
open(f"up.{os.getpid()}", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_engine_outlives_its_gateway(tmp_path: Path, number: signal.Signals) -> None:
    root = str(Path(__file__).parents[2])
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(tmp_path / "run"), ENGINE, root],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    with gateway:
        assert gateway.stdout is not None
        session = int(gateway.stdout.readline())
        wait_for(lambda: len(list((tmp_path / "run").glob("up.*"))) == 5, 10)
        assert len(session_members(session)) == 5
        gateway.send_signal(number)
        gateway.wait()
        wait_for(lambda: not session_members(session), 2)


def wait_for(holds: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
