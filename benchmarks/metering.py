"""What it costs to know who asks and to account for it, and how fast the ledger is.

`requests`: two gateways over fake engines of one pace, 64 streams each in turn: one as it is, one
with authentication, admission, metering, ledger and audit taken out (`benchmarks.unmetered`). The
figure is what the first adds to a whole request, from its first byte to its last.
`receipt`: what the audit log takes of that on the event loop, by itself, the wait for the disk
every hundred of them included.
`ledger`: requests are reserved, awaited on the disk, noted and settled as fast as it goes, into a
real database; the clock stops when the database has the last of them.
`python -m benchmarks.metering` (about 4 minutes), or `--quick` (nothing is recorded).
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.contestants import (
    QUIET,
    ROOT,
    START_TIMEOUT_S,
    Contestant,
    Pace,
    check_relay,
    free_port,
)
from benchmarks.load.http import TokenReader, ask
from benchmarks.load.loops import ClosedLoop
from benchmarks.load.percentile import percentile
from benchmarks.record import Figure, Record, Verdict, finish
from serve.audit.receipt import Receipts
from serve.audit.search import Wanted, search
from serve.audit.trail import AuditTrail
from serve.core.call import Call, Principal, Timeline
from serve.core.clock import SystemClock
from serve.core.ledger import Closed, Opened
from serve.core.said import Said
from serve.core.usage import Usage
from serve.metering.ledger import DiskLedger
from serve.settings.audit import Audit
from serve.settings.prices import Price, Prices, Pricing
from serve.state.usage import UsageRecords
from serve.store.address import address_of
from serve.store.database import Database

STREAMS: Final = 64
ROUNDS: Final = 7
SECONDS: Final = 10.0
PACE: Final = Pace(tokens=16, ttft_ms=50, tpot_ms=20)
THINK_S: Final = (0.1, 0.6)
ARMS: Final = {"on": ("serve.cli",), "off": ("benchmarks.unmetered",)}
QUANTITIES: Final = ("ttft", "request")
P50_BOUND_MS: Final = 0.5
P99_BOUND_MS: Final = 2.0
LEDGER_BOUND: Final = 2000.0
LEDGER_SECONDS: Final = 6.0
SEED: Final = 20261124
PROMPT: Final = "a question of a few words"


@asynccontextmanager
async def gateway(arm: str, directory: Path) -> AsyncIterator[Contestant]:
    """One arm's server, with a fake engine of its own."""
    port, var_dir = free_port(), directory / arm
    var_dir.mkdir()
    command = (
        sys.executable, "-m", *ARMS[arm], "dev", "--port", str(port), "--auth", "keys",
        "--var-dir", str(var_dir), *PACE.arguments(),
    )  # fmt: skip
    process = _started(command, directory / f"{arm}.log")
    try:
        target = Contestant(arm, ("127.0.0.1", port), process=process)
        await _ready(target, var_dir)
        yield target
        check_receipts(arm, var_dir)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)


def check_receipts(arm: str, var_dir: Path) -> None:
    """What is measured is what is meant: one arm writes receipts, the other none."""
    found = next(search(var_dir / "audit", Wanted(kind="request")), None)
    if (found is not None) != (arm == "on"):
        raise SystemExit(f"{arm}: its audit log is not as it should be")


def receipts_us(count: int) -> float:
    """Microseconds of the event loop that one receipt takes: digests, chain and write."""
    body = {"messages": [{"role": "user", "content": PROMPT}], "seed": 1, "temperature": 0.5}
    call = Call(
        "req_0", "chat.completions", "/v1/chat/completions", Principal("key"), "m", body, 1, False,
        0.0,
    )  # fmt: skip
    said = Said()
    for index in range(PACE.tokens):
        said.take({"index": 0, "delta": {"content": f"w{index} "}})
    timeline = Timeline("m", 0.0, 0.0, usage=Usage(100, 50, 20, 5), said=said)

    async def measured(folder: Path) -> float:
        trail = AuditTrail(folder, Audit(), SystemClock())
        await trail.open()
        receipts = Receipts(trail)
        begin_s = time.perf_counter()
        for number in range(count):
            receipts.claim("default")
            receipts.write(call, timeline, lambda: None)
            if number % 100 == 0:
                await trail.durable()
        took_s = time.perf_counter() - begin_s
        await trail.close()
        return 1e6 * took_s / count

    with tempfile.TemporaryDirectory(prefix="audit", dir=ROOT) as folder:
        took_us: float = uvloop.run(measured(Path(folder)))
        return took_us


def _started(command: Sequence[str], log_file: Path) -> "subprocess.Popen[bytes]":
    with log_file.open("wb") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **QUIET}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


async def _ready(target: Contestant, var_dir: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    key_file = var_dir / "starter.key"
    while time.monotonic() < deadline_s:
        if key_file.is_file():
            target.headers["authorization"] = f"Bearer {key_file.read_text().strip()}"
            try:
                status, _ = await ask(target.address, target.chat("ready? fake:tokens=1"), 10)
            except (OSError, TimeoutError):
                status = 0
            if status == 200:
                await check_relay(target)
                return
        await asyncio.sleep(0.1)
    raise SystemExit(f"{target.name}: did not start")


async def load(target: Contestant, seconds: float, rng: random.Random) -> dict[str, list[float]]:
    """64 streams for so long: each request's milliseconds to its first token, and to its end."""
    loop = ClosedLoop(
        target.address,
        target.chat(PROMPT, stream=True, stream_options={"include_usage": True}),
        STREAMS,
        TokenReader,
        think_s=lambda: rng.uniform(*THINK_S),
    )
    await loop.start([rng.uniform(0, 0.7) for _ in range(STREAMS)])
    await asyncio.sleep(seconds)
    await loop.stop(5)
    if loop.failed:
        raise SystemExit(f"{target.name}: {loop.failed} requests failed")
    return {
        "ttft": [
            1000 * (one.first_token_s - one.sent_s)
            for one in loop.exchanges
            if one.first_token_s is not None
        ],
        "request": [1000 * (one.end_s - one.sent_s) for one in loop.exchanges],
    }


async def requests(rounds: int, seconds: float) -> dict[tuple[str, str, float], list[float]]:
    """(arm, quantity, quantile) → milliseconds, one a round."""
    rng = random.Random(SEED)
    found: dict[tuple[str, str, float], list[float]] = {}
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="metering")))
        targets = {arm: await stack.enter_async_context(gateway(arm, directory)) for arm in ARMS}
        for target in targets.values():
            await load(target, 2.0, rng)
        for turn in range(rounds):
            for arm in list(ARMS) if turn % 2 == 0 else list(ARMS)[::-1]:
                taken = await load(targets[arm], seconds, rng)
                for quantity in QUANTITIES:
                    for q in (0.5, 0.99):
                        value = percentile(taken[quantity], q)
                        if value is not None:
                            found.setdefault((arm, quantity, q), []).append(value)
                _say(
                    f"round {turn + 1} {arm}: "
                    + ", ".join(f"{name} {percentile(taken[name], 0.5):.2f} ms" for name in taken)
                    + f", {len(taken['request'])} requests"
                )
    return found


async def ledger_rate(seconds: float) -> float:
    """Requests settled a second, until the database has them all."""
    prices = Prices(models={"m": (Price.model_validate({"input": "1", "output": "4"}),)})
    with tempfile.TemporaryDirectory(prefix="ledger", dir=ROOT) as directory:
        database = Database(address_of(None, Path(directory)))
        database.open()
        records = UsageRecords(database)
        ledger = DiskLedger(Path(directory) / "ledger", records, Pricing(prices), SystemClock())
        await ledger.open()
        begin_s = time.perf_counter()
        counts = await asyncio.gather(
            *(_settle(ledger, client, begin_s + seconds) for client in range(STREAMS))
        )
        await ledger.close()
        took_s = time.perf_counter() - begin_s
        totals = await records.totals(0)
        database.close()
    settled = sum(counts)
    if sum(tokens for _, _, tokens, _ in totals) != 150 * settled:
        raise SystemExit("the ledger's sums are not what was settled")
    return settled / took_s


async def _settle(ledger: DiskLedger, client: int, end_s: float) -> int:
    settled = 0
    usage = Usage(100, 50, 20, 5)
    closed = Closed("ok", "m", "fp_0123456789ab", "stop", usage, 0.001, 0.05, 0.7)
    while time.perf_counter() < end_s:
        name = f"req_{client:02}_{settled:08}"
        opened = Opened(
            name, f"tenant-{client % 8}", "key", "chat.completions", "m", "default", time.time()
        )
        entry = ledger.reserve(opened)
        await entry.durable()
        entry.note(usage)
        entry.settle(closed)
        settled += 1
        if ledger.pending > 20_000:  # else it would be memory that is measured
            await asyncio.sleep(0.01)
    return settled


def judge(
    record: Record,
    found: dict[tuple[str, str, float], list[float]],
    rates: Sequence[float],
    receipts: Sequence[float],
) -> None:
    """Figures of each arm, what one adds to the other, and the bounds."""

    def figure(name: str, unit: str, samples: Sequence[float]) -> Figure:
        one = Figure(name, unit, tuple(samples))
        record.figures.append(one)
        return one

    added: dict[tuple[str, float], Figure] = {}
    for quantity in QUANTITIES:
        for q in (0.5, 0.99):
            short = f"{quantity}_p{q * 100:.0f}"
            arms = [found.get((arm, quantity, q), []) for arm in ARMS]
            if not all(arms):
                continue
            for arm, samples in zip(ARMS, arms, strict=True):
                figure(f"{short}_{arm}", "ms", samples)
            differences = [on - off for on, off in zip(*arms, strict=True)]
            added[quantity, q] = figure(f"{short}_added", "ms", differences)
    settled = figure("settled", "per_s", rates)
    figure("receipt", "us", receipts)
    record.verdicts = [
        Verdict("request_added_p50", "ms", "<=", P50_BOUND_MS, added.get(("request", 0.5))),
        Verdict("request_added_p99", "ms", "<=", P99_BOUND_MS, added.get(("request", 0.99))),
        Verdict("ledger_settled", "per_s", ">=", LEDGER_BOUND, settled),
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every bound is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metering")
    parser.add_argument("--quick", action="store_true", help="one short round; keeps no record")
    quick = parser.parse_args(arguments).quick
    rounds, seconds = (1, 6.0) if quick else (ROUNDS, SECONDS)
    record = Record(
        "metering",
        {
            "streams": STREAMS, "rounds": rounds, "seconds": seconds, "pace": PACE.arguments(),
            "think_s": THINK_S, "ledger_seconds": LEDGER_SECONDS, "ledger_clients": STREAMS,
            "database": "SQLite", "cores": sorted(os.sched_getaffinity(0)),
            "off": "without authentication, admission, metering, ledger and audit",
        },
    )  # fmt: skip
    rates: list[float] = []
    receipts: list[float] = []
    for turn in range(rounds):
        rates.append(uvloop.run(ledger_rate(2.0 if quick else LEDGER_SECONDS)))
        receipts.append(receipts_us(1000 if quick else 10_000))
        _say(f"round {turn + 1}: {rates[-1]:,.0f} settled/s, {receipts[-1]:.0f} us a receipt")
    judge(record, uvloop.run(requests(rounds, seconds)), rates, receipts)
    return finish(record, keep=not quick)


if __name__ == "__main__":
    sys.exit(main())
