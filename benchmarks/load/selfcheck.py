"""How much this client can take: its ceiling, found against a stub that tells known times.

Rising rates of streamed tokens, each token written by itself, until the client is late or wrong.
The highest rate that it told truly is the ceiling; no run is believed above half of it.
"""

import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from benchmarks.load.metrics import tpot_s, ttft_s
from benchmarks.load.openloop import OpenLoop, Run
from benchmarks.load.percentile import percentile
from benchmarks.load.result import Row
from benchmarks.load.stub import Pace
from benchmarks.load.stubs import RunningStub, apart, running
from benchmarks.load.validity import LAG_P99_MAX_S, client_of
from benchmarks.load.workload import Message, Planned, Strict
from benchmarks.record import machine
from serve.core.errors import SettingsError

PACE: Final = Pace(ttft_s=0.5, gap_s=0.02)
ERROR_MAX: Final = 0.03
FIRST_RATE: Final = 2_500.0
GROWTH: Final = 1.5
RATE_MAX: Final = 200_000.0
STEP_S: Final = 3.0
RAMP_S: Final = 0.4
STUB_LATE_MAX_S: Final = 0.005
TRIES: Final = 3
"""Of each rate: one may fail by what else the machine does."""


class Step(Strict):
    """One rate and how the client did."""

    asked_chunks_per_s: float
    chunks_per_s: float
    ttft_error: float
    """Of the median, as a share; the stub's own lateness is in it."""
    tpot_error: float
    """The worse of the median's and the 95th percentile's."""
    lag_p99_s: float
    cpu_share: float
    stub_late_p99_s: float | None
    stub_cpu_share: float
    told_truly: bool
    why_not: str = ""


class SelfCheck(Strict):
    """What the client can take here."""

    format: Annotated[Literal["inhouse.selfcheck/1"], Field(alias="schema")] = "inhouse.selfcheck/1"
    ceiling_chunks_per_s: float
    stub_bound: bool
    """The stub gave way first: the client's ceiling is at least this."""
    steps: tuple[Step, ...]
    machine: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """Streams that run side by side."""

    streams: int
    tokens: int

    @classmethod
    def of_rate(cls, chunks_per_s: float, seconds: float) -> "Load":
        """So many that this rate is kept for this time."""
        return cls(max(1, round(chunks_per_s * PACE.gap_s)), round(seconds / PACE.gap_s))

    async def offer(self, stub: RunningStub, seed: int) -> Run:
        """Begin them spread over RAMP_S, at random, so that they do not keep step."""
        rng = random.Random(seed)
        offsets = sorted(rng.uniform(0, RAMP_S) for _ in range(self.streams))
        message = (Message(role="user", content="count"),)
        requests = [
            Planned(id=number, offset_s=offset_s, messages=message, max_tokens=self.tokens)
            for number, offset_s in enumerate(offsets)
        ]
        target = stub.target()
        encoded = [target.encoded(one, "s", {}) for one in requests]
        loop = OpenLoop(target, timeout_s=self.tokens * PACE.gap_s + 30)
        return await loop.run(requests, encoded, offsets)


async def selfcheck(
    step_s: float = STEP_S,
    rate_max: float = RATE_MAX,
    on_step: Callable[[Step], None] | None = None,
) -> SelfCheck:
    """Find the ceiling; the client keeps one core for itself where there are two."""
    client_cores, stub_cores = apart()
    before = os.sched_getaffinity(0)
    steps: list[Step] = []
    try:
        async with running(PACE, stub_cores) as stub:
            os.sched_setaffinity(0, client_cores)
            rate = FIRST_RATE
            while rate <= rate_max and (not steps or steps[-1].told_truly):
                for _ in range(TRIES):
                    steps.append(await _step(stub, rate, step_s))
                    if on_step is not None:
                        on_step(steps[-1])
                    if steps[-1].told_truly:
                        break
                rate *= GROWTH
    finally:
        os.sched_setaffinity(0, before)
    true = [one.chunks_per_s for one in steps if one.told_truly]
    return SelfCheck(
        ceiling_chunks_per_s=max(true, default=0.0), stub_bound=_by_the_stub(steps),
        steps=tuple(steps), machine=machine(),
    )  # fmt: skip


async def _step(stub: RunningStub, rate: float, seconds: float) -> Step:
    before = await stub.lateness()
    load = Load.of_rate(rate, seconds)
    run = await load.offer(stub, round(rate))
    after = await stub.lateness()
    client = client_of(run, None)
    wrong_ttft, wrong_tpot = errors(run.rows, PACE)
    why = []
    if wrong_ttft > ERROR_MAX or wrong_tpot > ERROR_MAX:
        why.append(f"TTFT wrong by {wrong_ttft:.1%}, TPOT by {wrong_tpot:.1%}")
    if client.lag_p99_s > LAG_P99_MAX_S:
        why.append(f"its loop {client.lag_p99_s * 1000:.1f} ms late")
    failed = sum(row.outcome != "ok" for row in run.rows)
    if failed:
        why.append(f"{failed} requests failed")
    return Step(
        asked_chunks_per_s=rate, chunks_per_s=_steady_rate(run.rows), ttft_error=wrong_ttft,
        tpot_error=wrong_tpot, lag_p99_s=client.lag_p99_s, cpu_share=client.cpu_share,
        stub_late_p99_s=after["p99_s"],
        stub_cpu_share=(after["cpu_s"] - before["cpu_s"]) / run.took_s,
        told_truly=not why, why_not=", ".join(why),
    )  # fmt: skip


def errors(rows: Sequence[Row], pace: Pace) -> tuple[float, float]:
    """How far the measured times are from the stub's, as shares: TTFT, TPOT.

    The worse of median and 95th percentile for TPOT, the median for TTFT; 1 where nothing was
    measured.
    """
    first = [value for row in rows if (value := ttft_s(row)) is not None and row.outcome == "ok"]
    between = [value for row in rows if (value := tpot_s(row)) is not None and row.outcome == "ok"]
    return _wrong(first, pace.ttft_s, (0.5,)), _wrong(between, pace.gap_s, (0.5, 0.95))


def _wrong(found: Sequence[float], true: float, quantiles: Iterable[float]) -> float:
    values = [percentile(found, q) for q in quantiles]
    known = [value for value in values if value is not None] or list(found)
    return max((abs(value - true) / true for value in known), default=1.0)


def _steady_rate(rows: Sequence[Row]) -> float:
    """Chunks a second while all streams ran."""
    firsts = [row.first_token_s for row in rows if row.first_token_s is not None]
    lasts = [row.last_token_s for row in rows if row.last_token_s is not None]
    if len(firsts) < len(rows) or not rows:
        return 0.0
    begin_s, end_s = max(firsts), min(lasts)
    chunks = 0
    for row in rows:
        at_s = row.first_token_s or 0.0
        chunks += begin_s <= at_s < end_s
        for gap_s in row.gaps_s:
            at_s += gap_s
            chunks += begin_s <= at_s < end_s
    return chunks / (end_s - begin_s) if end_s > begin_s else 0.0


def _by_the_stub(steps: Sequence[Step]) -> bool:
    """Whether the stub was late where the client was first wrong, or nothing was wrong at all."""
    true = [number for number, one in enumerate(steps) if one.told_truly]
    above = steps[max(true, default=-1) + 1 :]
    if not above:
        return True
    late_s = above[0].stub_late_p99_s
    return late_s is not None and late_s > STUB_LATE_MAX_S and above[0].cpu_share < 0.9


def ceiling_of(file: Path) -> float | None:
    """The ceiling that a check found on this machine; None where there is none of it."""
    if not file.is_file():
        return None
    found, here = load(file), machine()
    same = all(found.machine.get(name) == here[name] for name in ("cpu", "cores", "python"))
    return found.ceiling_chunks_per_s if same else None


def load(file: Path) -> SelfCheck:
    """Read what `inhouse bench selfcheck` wrote. Raises SettingsError."""
    try:
        return SelfCheck.model_validate_json(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; run `inhouse bench selfcheck`") from None
    except ValidationError:
        raise SettingsError(f"{file}: not what `inhouse bench selfcheck` writes") from None
