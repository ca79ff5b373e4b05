"""What `benchmarks/gateway.py` does to each contestant, and what one round of it yields."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from benchmarks.contestants import FAKE, Contestant, Pace, Stage
from benchmarks.load.cpu import cpu_s, tree
from benchmarks.load.http import CountingReader, Exchange, TokenReader
from benchmarks.load.loops import ClosedLoop, LagMeter, bursts, paced
from benchmarks.load.percentile import percentile

PACED: Final = Pace(tokens=64, ttft_ms=20, tpot_ms=20)
UNPACED: Final = Pace(tokens=16, ttft_ms=0, tpot_ms=0)
TOGETHER_PACED: Final = Stage(PACED, apart=False)
TOGETHER_UNPACED: Final = Stage(UNPACED, apart=False)
APART: Final = Stage(UNPACED, apart=True)
STAGES: Final = (TOGETHER_PACED, TOGETHER_UNPACED, APART)
STREAMS: Final = 32
PACED_STREAMS: Final = 128
PROMPT: Final = "What is the capital of France?"
THINK_MAX_S: Final = 0.004
"""Spread over several milliseconds: an event loop's timers tick in whole ones, and a client in
step with them would measure the tick."""
ANSWER_TIMEOUT_S: Final = 30.0
WARM_UP_S: Final = 0.5
RAW_MAX: Final = 200
"""Single samples kept a turn; the figures are of all of them."""
LAG_P99_MAX_MS: Final = 5.0
BUSY: Final = 0.9
"""Share of its core from which a gateway counts as saturated."""

Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Round:
    """One contestant's turn at one scenario: figures by name, raw samples, doubts."""

    figures: Sample
    raw_ms: tuple[float, ...] = ()
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name, where it is played, how long a turn is, and the turn."""

    name: str
    title: str
    stage: Stage
    seconds: float
    turn: Callable[[Contestant, "Backend", float, random.Random], Awaitable[Round]]


@dataclass(frozen=True, slots=True)
class Backend:
    """The processes that stand behind one contestant."""

    pids: tuple[int, ...]


def backend_of(contestant: Contestant, direct: Contestant) -> Backend:
    """Inhouse starts its own fake engine; everybody else shares the bare one."""
    root = contestant.process if contestant.name == "inhouse" else direct.process
    assert root is not None
    if contestant.name != "inhouse":
        return Backend((root.pid,))
    gateway = tree(root.pid, without=FAKE)
    return Backend(tuple(pid for pid in tree(root.pid) if pid not in gateway))


async def one_stream(
    target: Contestant, backend: Backend, seconds: float, rng: random.Random
) -> Round:
    """TTFT of one stream after the other."""
    request = target.chat(f"{PROMPT} fake:tokens=2", stream=True)
    loop = ClosedLoop(target.address, request, 1, TokenReader, _think(rng))
    async with LagMeter() as lag:
        exchanges = await paced(loop, seconds, 0.0, rng, ANSWER_TIMEOUT_S)
    return _ttft(exchanges[1:], lag)  # the first one opened the connection behind the gateway


async def spread_streams(
    target: Contestant, backend: Backend, seconds: float, rng: random.Random
) -> Round:
    """TTFT while 32 streams run, begun at any time."""
    request = target.chat(PROMPT, stream=True)
    loop = ClosedLoop(target.address, request, STREAMS, TokenReader, _think(rng))
    period_s = (PACED.ttft_ms + PACED.tokens * PACED.tpot_ms) / 1000
    async with LagMeter() as lag:
        exchanges = await paced(loop, seconds, period_s, rng, ANSWER_TIMEOUT_S)
    return _ttft(exchanges, lag)


async def burst_streams(
    target: Contestant, backend: Backend, seconds: float, rng: random.Random
) -> Round:
    """TTFT of 32 streams begun at one instant."""
    request = target.chat(f"{PROMPT} fake:tokens=4", stream=True)
    async with LagMeter() as lag:
        exchanges = await bursts(
            target.address, request, TokenReader, streams=STREAMS, seconds=seconds,
            timeout_s=ANSWER_TIMEOUT_S, pause_s=_think(rng),
        )  # fmt: skip
    return _ttft(exchanges[STREAMS:] or exchanges, lag)


async def full_streams(
    target: Contestant, backend: Backend, seconds: float, rng: random.Random
) -> Round:
    """TTFT while 32 unpaced streams keep the gateway as busy as it can be."""
    request = target.chat(f"{PROMPT} fake:tokens=64", stream=True)
    loop = ClosedLoop(target.address, request, STREAMS, TokenReader)
    async with LagMeter() as lag:
        exchanges = await paced(loop, seconds, WARM_UP_S, rng, ANSWER_TIMEOUT_S)
    return _ttft(exchanges[STREAMS:] or exchanges, lag)


async def unstreamed(
    target: Contestant, backend: Backend, seconds: float, rng: random.Random
) -> Round:
    """Unstreamed requests at saturation."""
    return await _saturate(target, backend, target.chat(PROMPT), seconds, "request")


async def streamed(
    target: Contestant, backend: Backend, seconds: float, rng: random.Random
) -> Round:
    """Chunks of long streams at saturation."""
    request = target.chat(f"{PROMPT} fake:tokens=2000", stream=True)
    return await _saturate(target, backend, request, seconds, "chunk")


async def paced_chunks(
    target: Contestant, backend: Backend, seconds: float, rng: random.Random
) -> Round:
    """Chunks that come one by one, as a model sends them: none can ride in another's write."""
    request = target.chat(f"{PROMPT} fake:tokens=2000", stream=True)
    loop = ClosedLoop(target.address, request, PACED_STREAMS, CountingReader)
    await loop.start([rng.uniform(0, WARM_UP_S) for _ in range(PACED_STREAMS)])
    await asyncio.sleep(2 * WARM_UP_S)
    return await _window(loop, target, backend, seconds, "chunk")


SCENARIOS: Final = (
    Scenario("ttft_1", "TTFT, 1 stream", TOGETHER_PACED, 2.0, one_stream),
    Scenario("ttft_32", "TTFT, 32 streams", TOGETHER_PACED, 2.6, spread_streams),
    Scenario("ttft_32_burst", "TTFT, 32 streams begun at once", TOGETHER_PACED, 2.0, burst_streams),
    Scenario("paced_chunks", "chunks of 128 paced streams", TOGETHER_PACED, 2.0, paced_chunks),
    Scenario("ttft_32_full", "TTFT, 32 unpaced streams", TOGETHER_UNPACED, 2.0, full_streams),
    Scenario("unstreamed", "unstreamed requests at saturation", APART, 2.0, unstreamed),
    Scenario("streamed", "streamed chunks at saturation", APART, 2.0, streamed),
)


def _think(rng: random.Random) -> Callable[[], float]:
    return lambda: rng.uniform(0, THINK_MAX_S)


def _ttft(exchanges: Iterable[Exchange], lag: LagMeter) -> Round:
    done, failures = [], 0
    for one in exchanges:
        if one.failed or one.first_token_s is None:
            failures += 1
        else:
            done.append((one.first_token_s - one.sent_s) * 1000)
    figures: Sample = {"count": float(len(done)), "failures": float(failures)}
    for name, q in (("p50_ms", 0.5), ("p95_ms", 0.95)):
        if (value := percentile(done, q, failures)) is not None:
            figures[name] = value
    lag_ms = (percentile(lag.lags_s, 0.99) or percentile(lag.lags_s, 0.5) or 0.0) * 1000
    figures["client_lag_p99_ms"] = lag_ms
    doubt = "INVALID (client-bound)" if lag_ms > LAG_P99_MAX_MS else ""
    return Round(figures, tuple(round(value, 3) for value in done[:RAW_MAX]), doubt)


async def _saturate(
    target: Contestant, backend: Backend, request: bytes, seconds: float, unit: str
) -> Round:
    loop = ClosedLoop(target.address, request, STREAMS, CountingReader)
    await loop.start()
    await asyncio.sleep(WARM_UP_S)
    found = await _window(loop, target, backend, seconds, unit)
    short_of_load = target.pids and found.figures["gateway_share"] < BUSY
    return Round(found.figures, doubt="INVALID (client-bound)" if short_of_load else "")


async def _window(
    loop: ClosedLoop, target: Contestant, backend: Backend, seconds: float, unit: str
) -> Round:
    """Rates and processor time of a running loop, which this ends."""
    steady = await loop.window(
        seconds, (lambda: cpu_s(target.pids), lambda: cpu_s(backend.pids), time.process_time)
    )
    await loop.stop(ANSWER_TIMEOUT_S if unit == "request" else 0.0)
    gateway_s, backend_s, client_s = steady.cpu_s
    count = steady.completed if unit == "request" else steady.events
    figures: Sample = {
        "per_s": count / steady.seconds,
        "count": float(count),
        "failures": float(steady.failed),
        "gateway_share": gateway_s / steady.seconds,
        "load_core_share": (backend_s + client_s) / steady.seconds,
        "client_share": client_s / steady.seconds,
    }
    if target.pids and count:
        figures["cpu_us"] = gateway_s / count * 1e6
    return Round(figures)
