"""Twenty changes of the site and ten faults of its engines under a constant load.

No request that had produced nothing may be lost; every other one ends whole or with a typed error.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serve.engines.mortality import session_members
from tests.applied import Applied
from tests.faults.clients import STREAMS, Clients, Killer

APPLIES = 20
FAULTS = 10
HASTY = "hang_idle_s: 1, hang_loaded_s: 1, progress_every_s: 0.1, start_timeout_s: 2"
ROOT = Path(__file__).parents[2]

# Eager: compiling takes a minute or two on a machine without a cache. On two cores that compute
# nothing but answers an engine starts in 10 s to a minute, and sometimes in several.
REAL = """\
site: t
root: {root}
model_files: {root}/configs/models
var_dir: {var_dir}
limits: {{ready_wait_s: 900}}
engine_defaults:
  standby: 1
  hang_idle_s: 3
  hang_loaded_s: 4
  progress_every_s: 0.5
  start_timeout_s: 600
models:
  - use: smollm2-135m
    aliases: [default]
    context_tokens: {context}
    cpu_kv_gib: 1
    engine_args: {{enforce-eager: true}}
"""


class RealApplied(Applied):
    """The same over vLLM."""

    ready_timeout_s = 900

    def write(self, context: int = 1000, more: str = "", entry: str = "") -> None:
        text = REAL.format(root=ROOT, var_dir=self.root, context=context)
        self.site_file.write_text(text)


class Swapper:
    """Applies two configs in turn, until so many have been served; `ends` are the outcomes."""

    def __init__(self, applied: Applied, number: int) -> None:
        self._applied = applied
        self._number = number
        self.ends: list[dict[str, Any]] = []

    async def run(self) -> None:
        done = 0
        while done < self._number:
            self._applied.write(1001 + done % 2)
            began_s = time.monotonic()
            end = (await asyncio.to_thread(self._applied.apply))[-1]
            self.ends.append(end | {"took_s": time.monotonic() - began_s})
            done += end["outcome"] == "applied"
            assert len(self.ends) < 2 * self._number, self.told()

    @property
    def undone(self) -> list[str]:
        """Why applies were rolled back."""
        return [one["text"] for one in self.ends if one["outcome"] != "applied"]

    def told(self) -> str:
        """The figures."""
        times = ", ".join(f"{one['took_s']:.1f}" for one in self.ends)
        return f"{len(self.ends)} applies in {times} s; rolled back: {self.undone}"


@dataclass(frozen=True)
class Storm:
    """What was done and asked, and the context length that is served at the end."""

    clients: Clients
    swapper: Swapper
    killer: Killer
    context: int

    def wrong(self) -> list[str]:
        """What should not have happened."""
        undone, faults = self.swapper.undone, len(self.killer.faults)
        ended = sum(not one.whole for one in self.clients.answers)
        found = [one for one in undone if "could not be started" not in one]
        if len(undone) > faults:
            found.append(f"{len(undone)} applies rolled back by {faults} faults")
        if ended > faults * STREAMS:
            found.append(f"{ended} answers ended by {faults} faults")
        if self.context != 1002:
            found.append(f"a context of {self.context} is served, not the last one applied")
        return found + self.clients.wrong()


def storm(
    applied: Applied,
    body: Callable[[int], dict[str, Any]],
    applies: int,
    faults: int,
    pause_s: tuple[float, float],
    victim: Callable[[int], bool] = lambda _: True,
) -> Storm:
    """All of it at once."""
    clients = Clients(applied.gateway, body)
    swapper = Swapper(applied, applies)
    killer = Killer(clients, faults, pause_s, random.Random(4), victim)

    try:
        asyncio.run(clients.run_during(swapper.run(), killer.run()))
    finally:
        print(clients.told(), swapper.told(), killer.told(), sep="\n")
    return Storm(clients, swapper, killer, applied.context())


def fake_body(number: int) -> dict[str, Any]:
    told = f"{number} fake:prefill=0.02 fake:tokens=5 fake:pace=0.01"
    return {"model": "default", "messages": [{"role": "user", "content": told}]}


@pytest.mark.parametrize(
    ("applies", "faults"), [(8, 5), pytest.param(APPLIES, FAULTS, marks=pytest.mark.long)]
)
def test_applies_and_faults_lose_no_request_that_had_produced_nothing(
    tmp_path: Path, applies: int, faults: int
) -> None:
    applied = Applied(tmp_path, bounds=HASTY)
    try:
        after = storm(applied, fake_body, applies, faults, (0.3, 1.3))
        assert after.wrong() == []
        assert len(after.killer.faults) == faults
    finally:
        print(applied.log())
        applied.close()


@pytest.fixture
def calm(tmp_path: Path) -> Any:
    one = Applied(tmp_path)
    yield one
    one.close()


def test_applies_alone_end_no_request(calm: Applied) -> None:
    clients = Clients(calm.gateway, fake_body)
    swapper = Swapper(calm, 5)
    asyncio.run(clients.run_during(swapper.run()))
    assert clients.wrong() == []
    assert all(one.whole for one in clients.answers)
    assert swapper.undone == []
    assert len({one.fingerprint for one in clients.answers}) == 3  # the first, and the two
    calm.until(lambda: len(calm.gateway.engine_pids()) == 1)


def real_body(number: int) -> dict[str, Any]:
    told = f"Count from {number} in words."
    message = {"role": "user", "content": told}
    return {"model": "default", "messages": [message], "max_completion_tokens": 8}


def has_core(pid: int) -> bool:
    """Whether it is an engine; a standby has no other process."""
    return len(session_members(pid)) > 1


@pytest.mark.engine
@pytest.mark.long
@pytest.mark.timeout(4800)
def test_applies_and_faults_of_real_engines(tmp_path: Path) -> None:
    applied = RealApplied(tmp_path)
    try:
        after = storm(applied, real_body, APPLIES, FAULTS, (10, 60), has_core)
        assert after.wrong() == []
        assert len(after.killer.faults) == FAULTS
    finally:
        print(applied.log())
        applied.close()
