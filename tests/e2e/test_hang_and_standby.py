"""A real engine whose core hangs while its server says that it is well, and its standby."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve.engines.mortality import session_members
from tests.conftest import Gateway, start_gateway
from tests.e2e.conftest import READY_TIMEOUT_S, SITE, write_site

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

IDLE_S, LOADED_S = 4.0, 6.0
HANGS = f"""
engine_defaults:
  standby: 1
  hang_idle_s: {IDLE_S:g}
  hang_loaded_s: {LOADED_S:g}
  progress_every_s: 0.5
"""
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that gives up on a silent engine within seconds."""
    directory = tmp_path_factory.mktemp("hang")
    site = write_site(directory, SITE + HANGS)
    gateway = start_gateway(
        directory, "serve", "--site", str(site), "--starter-key", ready_timeout_s=READY_TIMEOUT_S
    )
    gateway.client.timeout = 300
    yield gateway
    assert gateway.stop() == 0


def engine_of(gateway: Gateway) -> tuple[int, list[int]]:
    """The engine's server and its other processes; the standby has no others."""
    sessions = {pid: session_members(pid) for pid in gateway.engine_pids()}
    (engine,) = [pid for pid, members in sessions.items() if len(members) > 1]
    return engine, [pid for pid in sessions[engine] if pid != engine]


def standby_of(gateway: Gateway) -> int:
    """Its standby, once it is warm."""
    deadline_s = time.monotonic() + 120
    while "a standby is warm" not in (gateway.var_dir / "stderr.txt").read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    (standby,) = [pid for pid in gateway.engine_pids() if len(session_members(pid)) == 1]
    return standby


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": text}]} | fields


FRANCE = body("What is the capital of France?", temperature=0, max_completion_tokens=40)


def hangs(gateway: Gateway) -> float:
    page = gateway.client.get("/metrics").text
    (line,) = [line for line in page.splitlines() if line.startswith("inhouse_engine_hangs_total")]
    return float(line.split()[-1])


def test_a_prompt_longer_than_the_bound_is_no_hang(impatient: Gateway) -> None:
    standby_of(impatient)
    engine, _ = engine_of(impatient)
    begun_s = time.monotonic()
    texts = [f"{number} " + "word " * 4000 for number in range(2)]
    with httpx.Client(
        base_url=impatient.url, headers=impatient.client.headers, timeout=300
    ) as client:
        for text in texts:
            answer = client.post(CHAT, json=body(text, max_completion_tokens=1))
            assert answer.status_code == 200
            assert answer.json()["usage"]["prompt_tokens"] > 4000
            if time.monotonic() - begun_s > LOADED_S:
                break
    assert engine_of(impatient)[0] == engine
    assert hangs(impatient) == 0


def test_a_stopped_core_is_found_and_its_standby_answers(impatient: Gateway) -> None:
    standby = standby_of(impatient)
    _, cores = engine_of(impatient)
    asked = body("Count to a hundred.", stream=True, ignore_eos=True, max_completion_tokens=4000)
    with impatient.client.stream("POST", CHAT, json=asked) as answer:
        lines = answer.iter_lines()
        for _ in range(10):
            next(lines)
        for core in cores:
            os.kill(core, signal.SIGSTOP)
        stopped_s = time.monotonic()
        rest = list(lines)
        assert time.monotonic() - stopped_s < LOADED_S + 2
    assert '"error"' in "".join(rest)
    again = impatient.client.post(CHAT, json=FRANCE)
    assert "Paris" in again.json()["choices"][0]["message"]["content"]
    assert engine_of(impatient)[0] == standby
    assert hangs(impatient) == 1


@pytest.mark.long
def test_a_stopped_core_is_found_without_any_request(impatient: Gateway) -> None:
    before = hangs(impatient)
    _, cores = engine_of(impatient)
    for core in cores:
        os.kill(core, signal.SIGSTOP)
    stopped_s = time.monotonic()
    while hangs(impatient) == before:
        assert time.monotonic() - stopped_s < IDLE_S + 1
        time.sleep(0.1)
    again = impatient.client.post(CHAT, json=FRANCE)
    assert "Paris" in again.json()["choices"][0]["message"]["content"]
