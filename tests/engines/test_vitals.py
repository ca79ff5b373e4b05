"""Processes and pages that are really there."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from serve.engines.fake import FakeEngine, Knobs
from serve.engines.vitals import pulse_of, vitals_of

SPIN = "while True: pass"
VLLM = b"""# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.015625
vllm:generation_tokens_total{engine="0",model_name="m"} 1.2e+02
vllm:generation_tokens_created{engine="0",model_name="m"} 1.79e+09
vllm:request_prompt_tokens_sum{engine="0",model_name="m"} 8.0
http_requests_total{handler="/metrics",method="GET",status="2xx"} 5.0
process_cpu_seconds_total 41.2
"""


@pytest.fixture
def pair() -> Iterator["tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]"]:
    """One that sleeps, one that spins."""
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    spinner = subprocess.Popen([sys.executable, "-S", "-c", SPIN])
    yield sleeper, spinner
    for one in (sleeper, spinner):
        one.kill()
        one.wait()


def test_who_computes_and_who_is_stopped(
    pair: "tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]",
) -> None:
    leader, worker = pair[0].pid, pair[1].pid
    time.sleep(0.3)
    whole = vitals_of(leader, [leader, worker])
    assert whole.cpu_s is not None
    assert whole.cpu_s >= 0.05
    assert not whole.frozen
    # The leader's own time counts only where it is alone.
    assert (vitals_of(worker, [leader, worker]).cpu_s or 0) < whole.cpu_s
    assert (vitals_of(worker, [worker]).cpu_s or 0) >= whole.cpu_s
    os.kill(worker, signal.SIGSTOP)
    time.sleep(0.05)
    assert vitals_of(leader, [leader, worker]).frozen


def test_processes_that_have_gone_say_nothing() -> None:
    done = subprocess.Popen([sys.executable, "-S", "-c", ""])
    done.wait()
    assert vitals_of(done.pid, [done.pid]).cpu_s is None


def test_a_pulse_is_what_the_core_alone_moves() -> None:
    assert pulse_of(VLLM) == (0.015625, 120.0)
    assert pulse_of(b"") == ()


async def test_the_fake_engine_has_the_series_of_a_pulse() -> None:
    engine = FakeEngine(Knobs(model="m"))
    before = pulse_of(engine.metrics().encode())
    assert len(before) == 5
    engine.chunk()
    assert pulse_of(engine.metrics().encode()) != before
