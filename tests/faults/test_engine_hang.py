"""Engines that answer their health route and make no step, and some that only look so."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from serve.core.clock import SystemClock
from serve.core.errors import EngineError
from serve.engines.launch import fake_plan
from serve.engines.process import SystemEffects, private_directory
from serve.engines.states import Policy, State
from serve.engines.supervisor import EngineSupervisor
from serve.settings.model import ModelConfig, ServedModel, Source

IDLE_S, LOADED_S, EVERY_S = 1.2, 2.0, 0.1
LATE_S = 0.7
"""For a machine that has other things to do."""
QUICK = Policy(
    start_timeout_s=20,
    backoff_first_s=0.02,
    probe_every_s=0.02,
    hang_idle_s=IDLE_S,
    hang_loaded_s=LOADED_S,
    progress_every_s=EVERY_S,
)


def fake(tmp_path: Path, *knobs: str, counts_cpu: bool = True) -> EngineSupervisor:
    model = ServedModel(
        config=ModelConfig(name="small", source=Source(path=Path("none")), context_tokens=8192)
    )
    run_dir = private_directory(tmp_path / "run")
    plan = fake_plan(model, knobs, run_dir=run_dir, environ=os.environ)
    plan = replace(plan, computes_on_cpu=counts_cpu)
    return EngineSupervisor(model, plan, SystemEffects(), SystemClock(), policy=QUICK)


def play(engine: EngineSupervisor, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await engine.start()
        await engine.wait_ready(20)
        await story()
        await engine.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    uvloop.run(main())


async def ask(engine: EngineSupervisor, prompt: str, **fields: Any) -> bytes:
    assert engine.client is not None
    body = orjson.dumps({"prompt": prompt, "model": "small"} | fields)
    connection = await engine.client.post("/v1/completions", body)
    try:
        return await connection.read()
    finally:
        if (client := engine.client) is not None:
            client.release(connection)


async def hang_found_s(engine: EngineSupervisor) -> float:
    """Seconds until the engine is no longer taken to be ready."""
    begun_s = time.monotonic()
    async with asyncio.timeout(30):
        while engine.status.state is State.READY:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.01)
    return time.monotonic() - begun_s


async def answers_again(engine: EngineSupervisor, hangs: int = 1) -> None:
    await engine.wait_ready(20)
    assert (engine.status.hangs, engine.status.restarts) == (hangs, hangs)
    assert b"w0 w1" in await ask(engine, "hi")


def test_an_idle_engine_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    engine = fake(tmp_path)

    async def story() -> None:
        assert engine.status.pid is not None
        os.kill(engine.status.pid, signal.SIGSTOP)
        assert await hang_found_s(engine) < IDLE_S + LATE_S
        assert "stopped by a signal" in (engine.status.last_error or "hung: stopped by a signal")
        await answers_again(engine)

    play(engine, story)


def test_an_idle_engine_that_stalls_is_replaced(tmp_path: Path) -> None:
    engine = fake(tmp_path, "--stall-after-s=1")

    async def story() -> None:
        await asyncio.sleep(0.8)
        assert await hang_found_s(engine) < 0.2 + IDLE_S + LATE_S
        await engine.wait_ready(20)
        assert engine.status.hangs == 1

    play(engine, story)


@pytest.mark.parametrize("stream", [True, False])
def test_a_loaded_engine_that_stalls_is_replaced_though_it_says_that_it_is_well(
    tmp_path: Path, stream: bool
) -> None:
    engine = fake(tmp_path)

    async def story() -> None:
        asking = asyncio.create_task(ask(engine, "fake:stall@3", stream=stream))
        await asyncio.sleep(0.5)
        assert engine.client is not None
        assert await engine.client.get("/health", 1) == (200, b"")
        assert await hang_found_s(engine) < LOADED_S - 0.5 + LATE_S
        with pytest.raises(EngineError):
            await asking
        await answers_again(engine)

    play(engine, story)


@pytest.mark.parametrize(
    ("prompt", "counts_cpu"),
    [("fake:prefill=3", False), ("fake:crunch=3", True)],
    ids=["in chunks", "in one step"],
)
def test_a_long_prompt_is_no_hang(tmp_path: Path, prompt: str, counts_cpu: bool) -> None:
    engine = fake(tmp_path, counts_cpu=counts_cpu)

    async def story() -> None:
        pid = engine.status.pid
        assert b"w0 w1" in await ask(engine, prompt)
        assert (engine.status.pid, engine.status.hangs) == (pid, 0)

    play(engine, story)


def test_where_the_device_computes_a_spinning_process_is_a_hang(tmp_path: Path) -> None:
    engine = fake(tmp_path, counts_cpu=False)

    async def story() -> None:
        asking = asyncio.create_task(ask(engine, "fake:crunch=20"))
        assert await hang_found_s(engine) < LOADED_S + LATE_S
        with pytest.raises(EngineError):
            await asking
        await answers_again(engine)

    play(engine, story)
