"""Whether the load generator tells the truth: known times go in, and must come out.

Against a stub that answers as it is told (`benchmarks/load/stub.py`): TTFT and TPOT within 3 % up
to half of the client's ceiling, INVALID above it, failures counted, and a stall seen by every
request that would have met it (coordinated omission). `python -m benchmarks.proof` (about 5
minutes), or `--quick` (under a minute, nothing is recorded).
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Final

import uvloop

from benchmarks.load.compose import Drawn, drawn
from benchmarks.load.conduct import Conditions, conduct
from benchmarks.load.cpu import pin
from benchmarks.load.http import Exchange, TokenReader, post
from benchmarks.load.loops import ClosedLoop, paced
from benchmarks.load.metrics import e2e_s
from benchmarks.load.percentile import percentile
from benchmarks.load.result import Objective, Result, Row, load
from benchmarks.load.selfcheck import PACE, Load, errors, selfcheck
from benchmarks.load.stub import Pace
from benchmarks.load.stubs import apart, running
from benchmarks.load.validity import client_bound, client_of
from benchmarks.record import Figure, Record, Verdict, finish

CEILING_MIN: Final = 30_000.0
ERROR_MAX: Final = 0.03
SHARES: Final = (0.05, 0.25, 0.45)
"""Of the ceiling, at which times must be told truly; a rate is never hit exactly."""
ABOVE: Final = 0.75
ROUNDS: Final = 3
STEP_S: Final = 3.0
QUICK_STEP_S: Final = 1.0
STALLED: Final = Pace(ttft_s=0.02, gap_s=0.002, tokens=4, stall_at_s=3.0, stall_s=2.0)
STALLED_RATE: Final = 100.0
STALLED_S: Final = 10.0
QUICK_STALLED_S: Final = 6.0
USERS: Final = (25, 100, 200, 400, 800)
LOCUSTFILE: Final = Path(__file__).parent / "load" / "locustfile.py"
FAILING: Final = Pace(ttft_s=0.02, gap_s=0.002, tokens=4, fail_every=10)
GOAL: Final = Objective(name="proof", ttft_s=5.0, tpot_s=5.0)


@dataclass(slots=True)
class Found:
    """Samples by figure, one a round."""

    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.samples.setdefault(name, []).append(value)
        print(f"{name} {value:.4g}", file=sys.stderr, flush=True)


async def accuracy(found: Found, ceiling: float, seconds: float) -> None:
    """One round at each share of the ceiling, and one above half of it."""
    client_cores, stub_cores = apart()
    before = os.sched_getaffinity(0)
    try:
        async with running(PACE, stub_cores) as stub:
            os.sched_setaffinity(0, client_cores)
            for share in (*SHARES, ABOVE):
                run = await Load.of_rate(ceiling * share, seconds).offer(stub, round(share * 100))
                marks = client_bound(client_of(run, ceiling))
                if share == ABOVE:
                    found.add("invalid_above_half", float(bool(marks)))
                    continue
                ttft, tpot = errors(run.rows, PACE)
                found.add(f"ttft_error_at_{share:.0%}", ttft)
                found.add(f"tpot_error_at_{share:.0%}", tpot)
                found.add(f"valid_at_{share:.0%}", float(not marks))
                for mark in marks:
                    print(f"at {share:.0%}: {mark}", file=sys.stderr)
    finally:
        os.sched_setaffinity(0, before)


async def failures(found: Found) -> None:
    """Each tenth request is refused: so many fail, and the rest meet the objective."""
    what = drawn("failing", Drawn("poisson", 100.0, 300, 16, 4), 1)
    async with running(FAILING) as stub:
        result = await conduct(stub.target(), what, Conditions(GOAL, timeout_s=30, warm_up=0))
    assert result.summary.goodput is not None
    found.add("attainment_error", abs(result.summary.goodput.attainment - 0.9))


async def stall(found: Found, seconds: float) -> None:
    """The open loop against what the stall did to its requests, and a closed loop beside it."""
    count = round(STALLED_RATE * seconds)
    what = drawn("stalled", Drawn("poisson", STALLED_RATE, count, 16, STALLED.tokens), 2)
    async with running(STALLED) as stub:
        result = await conduct(stub.target(), what, Conditions(timeout_s=30, warm_up=0))
    seen = [value for row in result.rows if (value := e2e_s(row)) is not None]
    true = _true_e2e_s(result.rows)
    for name, q in (("p95", 0.95), ("p99", 0.99)):
        told, was = percentile(seen, q), percentile(true, q)
        assert told is not None and was is not None
        found.add(f"stall_{name}_error", abs(told - was) / was)
    found.add("stall_mean_error", abs(fmean(seen) - fmean(true)) / fmean(true))
    found.add("stall_mean_open_s", fmean(seen))
    async with running(STALLED) as stub:
        hidden = await _closed(stub.port, seconds)
    found.add("stall_mean_closed_s", fmean(one.end_s - one.sent_s for one in hidden))


def _true_e2e_s(rows: Sequence[Row]) -> list[float]:
    """What each request took by the stub's own rules, from when it was due."""
    first_s = min(row.sent_s for row in rows if row.sent_s is not None)
    found = []
    for row in rows:
        due = [row.intended_s + STALLED.ttft_s + n * STALLED.gap_s for n in range(STALLED.tokens)]
        found.append(max(STALLED.released_s(at_s, first_s) for at_s in due) - row.intended_s)
    return found


async def _closed(port: int, seconds: float) -> list[Exchange]:
    """Three users who wait for their answers, asking at about the same rate."""
    body = {
        "model": "stub", "messages": [{"role": "user", "content": "count"}], "stream": True,
        "max_tokens": STALLED.tokens,
    }  # fmt: skip
    loop = ClosedLoop(
        ("127.0.0.1", port), post("/v1/chat/completions", body), streams=3, reader=TokenReader
    )
    return await paced(loop, seconds, 0.03, random.Random(1), drain_s=5)


async def locust_run(port: int, users: int, folder: Path, ceiling: float = 0.0) -> Result:
    """One run of Locust's driver, in one process, at about 50 chunks/s a user."""
    file = folder / f"{users}.json"
    client_cores, _ = apart()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary",
        "--host", f"http://127.0.0.1:{port}/v1", "--model", "stub", "--peak-users", str(users),
        "--duration-s", "6", "--answer-tokens", "100", "--result", str(file),
        "--ceiling", str(ceiling), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pin([process.pid], client_cores)
    await process.wait()
    return load(file)


async def locust(found: Found, steps: Sequence[int]) -> None:
    """Locust's driver at rising numbers of users: its ceiling; no run that it vouches for is wrong,
    and one above half of the ceiling is INVALID."""
    ceiling = 0.0
    _, stub_cores = apart()
    with tempfile.TemporaryDirectory() as folder:
        async with running(PACE, stub_cores) as stub:
            for users in steps:
                result = await locust_run(stub.port, users, Path(folder))
                wrong = max(errors(result.rows, PACE))
                found.add(f"locust_wrong_{users}_users", wrong)
                if result.valid:
                    found.add("locust_vouched_error", wrong)
                if wrong > ERROR_MAX:
                    break
                ceiling = result.client.chunks_per_s_peak
            users = max(1, round(ABOVE * ceiling * PACE.gap_s))
            above = await locust_run(stub.port, users, Path(folder), ceiling)
    found.add("locust_ceiling", ceiling)
    found.add("locust_invalid_above_half", float(not above.valid))


def judge(record: Record, found: Found) -> None:
    """Figures and bounds."""
    figures = {
        name: Figure(name, _unit(name), tuple(samples)) for name, samples in found.samples.items()
    }
    record.figures = list(figures.values())
    for name, figure in figures.items():
        if name == "ceiling":
            record.verdicts.append(Verdict(name, "chunks/s", ">=", CEILING_MIN, figure))
        elif "error" in name:
            record.verdicts.append(Verdict(name, "share", "<=", ERROR_MAX, figure))
        elif "valid" in name:
            record.verdicts.append(Verdict(name, "share", ">=", 1.0, figure))


def _unit(name: str) -> str:
    if name.endswith("ceiling"):
        return "chunks/s of one core"
    return "s" if name.endswith("_s") else "share"


async def prove(quick: bool) -> tuple[Found, dict[str, object]]:
    """All rounds; the ceiling is found once, before them."""
    found = Found()
    check = await selfcheck(QUICK_STEP_S if quick else STEP_S)
    found.add("ceiling", check.ceiling_chunks_per_s)
    for _ in range(1 if quick else ROUNDS):
        await accuracy(found, check.ceiling_chunks_per_s, QUICK_STEP_S if quick else STEP_S)
        await failures(found)
        await stall(found, QUICK_STALLED_S if quick else STALLED_S)
        await locust(found, USERS[1:2] if quick else USERS)
    return found, {"selfcheck": check.model_dump(mode="json", by_alias=True)}


def main() -> int:
    """Exit code 0 when every bound is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, nothing recorded")
    options = parser.parse_args()
    record = Record(
        benchmark="proof",
        settings={
            "ttft_s": PACE.ttft_s, "gap_s": PACE.gap_s, "shares_of_ceiling": SHARES,
            "rounds": 1 if options.quick else ROUNDS, "stall_s": STALLED.stall_s,
            "stalled_rate_per_s": STALLED_RATE, "locust_users": USERS,
        },
    )  # fmt: skip
    record.remarks = [
        "errors are shares of the stub's own times, its lateness included; TPOT's is the worse of "
        "the median's and the 95th percentile's",
        "stall_mean_closed_s is what a closed loop reports of the same stall: three users who wait",
        "locust_ceiling is what Locust's driver told within 3 %, in one process, at the most users "
        "that were tried; locust_vouched_error is the worst of the runs that it called valid",
        "client and stub each have a core where there are two",
    ]
    found, raw = uvloop.run(prove(options.quick))
    record.raw = raw
    judge(record, found)
    return finish(record, keep=not options.quick)


if __name__ == "__main__":
    sys.exit(main())
