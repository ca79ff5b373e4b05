"""What one tenant that asks for far too much costs the others, and what preventing that costs.

Eight tenants of equal weight ask one model, in an open loop: they do not wait for answers. Seven
ask for seven tenths of their share of what its engine can do. The eighth asks for its share, and
then for twenty times that: served fairly, and in the order of arrival by an engine that is given
everything at once. The first bound is how much the seven's p99 time to the first token may grow,
the second what must be left of that engine's throughput. Two more arms, without a bound, say the
same of seven that ask for half of their share.

Each kind has an engine of its own, for the fair one is started with places that the gateway keeps
for those who ask little; both are the same otherwise, and only one works at a time.
`python -m benchmarks.fairness` (an engine without a model that shares its steps as vLLM does,
about 5 minutes), `--real` (SmolLM2 on vLLM, about 5 minutes), or `--quick` (one short round,
nothing is recorded).
"""

import argparse
import asyncio
import gc
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop
from rich.console import Console

from benchmarks.contestants import ROOT
from benchmarks.load.percentile import percentile
from benchmarks.record import Figure, Record, Verdict, finish
from serve import log
from serve.admission.context import ContextGuard
from serve.admission.gate import Gate
from serve.core.call import Call, Principal
from serve.core.clock import SystemClock
from serve.core.errors import RequestError
from serve.engines.backend import Backend
from serve.engines.foundry import Foundry
from serve.engines.hardware import probe
from serve.metering.meter import Meter
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline
from serve.served import Served
from serve.settings.load import load_site
from serve.settings.model import ServedModel
from serve.settings.site import Site
from serve.sites import dev_site

TENANTS: Final = 8
BUSY: Final = 0.7
"""Of its share that each of the others asks for: the engine has work, and nobody waits long."""
CALM: Final = 0.5
"""Likewise in two more arms, without a bound: the engine was half idle before."""
GREED: Final = 20
TTFT_BOUND: Final = 1.3
THROUGHPUT_BOUND: Final = 0.95
READY_TIMEOUT_S: Final = 400.0
QUEUE_REQUESTS: Final = 256
GREEDY: Final = "greedy"
OTHERS: Final = tuple(f"tenant-{number}" for number in range(1, TENANTS))
SEED: Final = 20261124


@dataclass(frozen=True, slots=True)
class Arm:
    """How it is served, and how many times its share the greedy tenant asks for."""

    name: str
    greed: float
    fair: bool
    part: float = BUSY


ARMS: Final = (
    Arm("share", 1, True), Arm("fair", GREED, True), Arm("arrival", GREED, False),
    Arm("calm_share", 1, True, CALM), Arm("calm_fair", GREED, True, CALM),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Load:
    """One engine, and what it is asked. An arm begins with `warm_s` that are not counted."""

    name: str
    prompt_words: int
    answer_tokens: int
    streams: int
    capacity_s: float
    warm_s: float
    arm_s: float
    rounds: int
    knobs: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ARMS
    quantile: float = 0.99
    """Of the times to the first token: what so many samples support."""


FAKE: Final = Load(
    "fake", prompt_words=128, answer_tokens=32, streams=32, capacity_s=5, warm_s=2, arm_s=16,
    rounds=3, knobs=("--step-ms=10", "--token-us=20", "--step-tokens=512"),
)  # fmt: skip
REAL: Final = Load(
    "vllm", prompt_words=8, answer_tokens=16, streams=16, capacity_s=20, warm_s=6, arm_s=45,
    rounds=1, arms=ARMS[:3], quantile=0.95,
)  # fmt: skip


class FirstToken:
    """A sink that notes when the first frames came."""

    def __init__(self) -> None:
        self.started = self.produced = False
        self.at_s: float | None = None

    async def write(self, frames: bytes) -> None:
        if self.at_s is None:
            self.at_s = time.monotonic()
        self.started = self.produced = True

    async def comment(self, frames: bytes) -> None:
        self.started = True


@dataclass
class Found:
    """What one arm of one round came to. Times are of the others, those counted."""

    ttfts_s: list[float] = field(default_factory=list)
    lost: int = 0
    served: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        """Tokens of answers that ended in the time that counts, each second of it."""
        return self.tokens / self.seconds

    def slow_s(self, quantile: float) -> float | None:
        """The time to the first token at this quantile, where there are samples enough."""
        return percentile(self.ttfts_s, quantile, self.lost)


@dataclass
class Bench:
    """The engine, and requests to it."""

    load: Load
    model: ServedModel
    backend: Backend
    plain: Backend
    """The engine as it is started without a gateway that keeps places: as many streams, no more."""
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))

    def pipeline(self, *, fair: bool) -> Pipeline:
        guard = ContextGuard(self.model.config.context_tokens, None)
        backend = self.backend if fair else self.plain
        served = Served(self.model, backend, guard, "fp", 0, (self.model.id,), self.model.id, {})
        gate = Gate(QUEUE_REQUESTS, fair=fair)
        return Pipeline((served,), gate, Meter(Metrics("1"), SystemClock()), READY_TIMEOUT_S)

    def call(self, tenant: str) -> Call:
        words = " ".join(f"{self.rng.randrange(9973)}" for _ in range(self.load.prompt_words))
        # Of all lengths: answers that begin together must not end together.
        mean = self.load.answer_tokens
        tokens = self.rng.randint(mean // 4, mean * 7 // 4)
        order = f"fake:tokens={tokens}"  # words like others to a real one
        body: dict[str, Any] = {
            "model": self.model.id,
            "messages": [{"role": "user", "content": f"{order} {words}"}],
            "max_completion_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return Call(
            f"req_{self.rng.getrandbits(64):x}", "chat.completions", "/v1/chat/completions",
            Principal(tenant, tenant), self.model.id, body, 1, False, time.monotonic(),
            tokens,
        )  # fmt: skip

    async def capacity(self) -> float:
        """Requests each second, where there are always more than the engine takes at once."""
        pipeline = self.pipeline(fair=False)
        ended = 0
        until_s = time.monotonic() + self.load.capacity_s

        async def stream() -> None:
            nonlocal ended
            while time.monotonic() < until_s:
                await pipeline.stream(pipeline.served[0], self.call("all"), FirstToken())
                ended += time.monotonic() < until_s

        begun_s = time.monotonic()
        await asyncio.gather(*(stream() for _ in range(self.load.streams * 3 // 2)))
        return ended / (until_s - begun_s)

    async def play(self, arm: Arm, share_per_s: float) -> Found:
        """Let all ask for the time of an arm, and wait for those of the others that came in it."""
        pipeline, found = self.pipeline(fair=arm.fair), Found(seconds=self.load.arm_s)
        begin_s = time.monotonic() + self.load.warm_s
        end_s = begin_s + self.load.arm_s
        asked: set[asyncio.Task[None]] = set()

        async def ask(tenant: str) -> None:
            call, sink = self.call(tenant), FirstToken()
            counts = begin_s <= call.received_s < end_s
            try:
                await pipeline.stream(pipeline.served[0], call, sink)
            except RequestError:
                found.refused[tenant] += counts
                found.lost += counts and tenant != GREEDY
                return
            except asyncio.CancelledError:
                found.lost += counts and tenant != GREEDY and sink.at_s is None
                if counts and tenant != GREEDY and sink.at_s is not None:
                    found.ttfts_s.append(sink.at_s - call.received_s)
                raise
            if begin_s <= time.monotonic() < end_s:
                found.tokens += call.max_output_tokens or 0
                found.served[tenant] += 1
            if counts and tenant != GREEDY:
                assert sink.at_s is not None
                found.ttfts_s.append(sink.at_s - call.received_s)

        async def tenant(name: str, per_s: float) -> None:
            due_s = time.monotonic()
            while (due_s := due_s + self.rng.expovariate(per_s)) < end_s:
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                task = asyncio.create_task(ask(name))
                asked.add(task)
                task.add_done_callback(asked.discard)

        gc.collect()
        rates = dict.fromkeys(OTHERS, arm.part * share_per_s) | {GREEDY: arm.greed * share_per_s}
        await asyncio.gather(*(tenant(name, per_s) for name, per_s in rates.items()))
        if asked:
            await asyncio.wait(asked, timeout=self.load.warm_s)
        rest = set(asked)
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
        await asyncio.sleep(0.5)
        return found


@asynccontextmanager
async def bench(load: Load, folder: Path) -> AsyncIterator[Bench]:
    """Both engines, once they answer."""
    sites = {kind: _site(load, folder / kind, plain=kind == "p") for kind in ("f", "p")}
    portfolios = {}
    for kind, site in sites.items():
        knobs = (*load.knobs, f"--max-streams={load.streams}") if kind == "p" else load.knobs
        foundry = Foundry(site, probe(), os.environ, SystemClock(), knobs)
        portfolios[kind] = foundry.portfolio(site.models, site.engine_defaults, QUEUE_REQUESTS)
    try:
        residents = {}
        for kind, portfolio in portfolios.items():
            await portfolio.start()
            (residents[kind],) = portfolio.residents()
            (await residents[kind].summon(READY_TIMEOUT_S)).release()
        yield Bench(load, sites["f"].models[0], residents["f"], residents["p"])
    finally:
        for portfolio in portfolios.values():
            await portfolio.stop()


def _site(load: Load, folder: Path, *, plain: bool) -> Site:
    if load.name == "vllm":
        site = load_site(ROOT / "configs" / "sites" / "quickstart.yaml")
        update: dict[str, Any] = {"context_tokens": 1024, "cpu_kv_gib": 1}
        update["engine_args"] = {"enforce-eager": True}
        if plain:
            update["engine_args"] |= {"max-num-seqs": load.streams}
    else:
        site, update = dev_site(1, "none", "warning", folder), {}
    model = site.models[0]
    config = model.config.model_copy(update=update | {"max_streams": load.streams})
    model = model.model_copy(update={"config": config, "aliases": ()})
    return site.model_copy(update={"models": (model,), "var_dir": folder})


async def measure(load: Load, out: Console) -> Record:
    """All arms, round by round; their order turns."""
    raw: dict[str, list[Found]] = {arm.name: [] for arm in load.arms}
    capacities: list[float] = []
    with tempfile.TemporaryDirectory(prefix="fair") as folder:
        async with bench(load, Path(folder)) as server:
            await server.capacity()  # what the first requests set up is in no figure
            for number in range(load.rounds):
                capacities.append(await server.capacity())
                share = capacities[-1] / TENANTS
                for place in range(len(load.arms)):
                    arm = load.arms[(place + number) % len(load.arms)]
                    with out.status(f"round {number + 1} of {load.rounds}: {arm.name}"):
                        found = await server.play(arm, share)
                    raw[arm.name].append(found)
                    out.print(_line(load, arm.name, found))
    return _record(load, capacities, raw)


def _line(load: Load, name: str, found: Found) -> str:
    slow_s = found.slow_s(load.quantile)
    shown = "n/a" if slow_s is None else f"{slow_s * 1e3:.0f} ms"
    middle = f"{median(found.ttfts_s) * 1e3:.0f} ms" if found.ttfts_s else "n/a"
    return (
        f"{name}: others' TTFT p50 {middle}, p{load.quantile * 100:.0f} {shown} "
        f"of {len(found.ttfts_s)}, {found.lost} lost; "
        f"{found.per_s:.0f} tokens/s, {found.served[GREEDY]} of the greedy tenant's"
    )


def _record(load: Load, capacities: list[float], raw: dict[str, list[Found]]) -> Record:
    settings = {
        "engine": load.name, "tenants": TENANTS, "greed": GREED,
        "part_of_share": {arm.name: arm.part for arm in load.arms},
        "prompt_words": load.prompt_words,
        "answer_tokens": f"{load.answer_tokens // 4} to {load.answer_tokens * 7 // 4}",
        "streams": load.streams, "queue_requests": QUEUE_REQUESTS, "warm_s": load.warm_s,
        "arm_s": load.arm_s, "rounds": load.rounds, "knobs": load.knobs, "seed": SEED,
        "arrivals": "Poisson, open loop, within the gateway's process",
    }  # fmt: skip
    record = Record("fairness" if load.name == "fake" else "fairness_real", settings)
    record.figures.append(Figure("capacity", "answers/s", tuple(capacities)))
    slow = f"p{load.quantile * 100:.0f}"
    slow_s: dict[str, tuple[float, ...]] = {}
    for name, rounds in raw.items():
        found_s = [one.slow_s(load.quantile) for one in rounds]
        if all(one is not None for one in found_s):
            slow_s[name] = tuple(one for one in found_s if one is not None and one < float("inf"))
        if len(slow_s.get(name, ())) == len(rounds):
            record.figures.append(Figure(f"{name}/others_ttft_{slow}", "s", slow_s[name]))
        medians = tuple(median(one.ttfts_s) for one in rounds if one.ttfts_s)
        if medians:
            record.figures.append(Figure(f"{name}/others_ttft_p50", "s", medians))
        record.figures.append(
            Figure(f"{name}/tokens_per_s", "tokens/s", tuple(one.per_s for one in rounds))
        )
        lost = tuple(one.lost / max(1, one.lost + len(one.ttfts_s)) for one in rounds)
        record.figures.append(Figure(f"{name}/others_refused", "ratio", lost))
    record.verdicts = [
        Verdict(
            f"others_ttft_{slow}_at_20x", "ratio", "<=", TTFT_BOUND,
            _ratio(slow_s, load.rounds),
        ),
        Verdict(
            "throughput_of_arrival_order", "ratio", ">=", THROUGHPUT_BOUND,
            Figure("throughput_of_arrival_order", "ratio", tuple(
                fair.per_s / other.per_s
                for fair, other in zip(raw["fair"], raw["arrival"], strict=True)
            )),
        ),
    ]  # fmt: skip
    return record


def _ratio(slow_s: dict[str, tuple[float, ...]], rounds: int) -> Figure | None:
    share, fair = slow_s.get("share", ()), slow_s.get("fair", ())
    if len(share) != rounds or len(fair) != rounds:
        return None
    grown = tuple(one / other for one, other in zip(fair, share, strict=True))
    return Figure("others_ttft_at_20x", "ratio", grown)


def main() -> int:
    parser = argparse.ArgumentParser(description="what a greedy tenant costs the others")
    parser.add_argument("--real", action="store_true", help="SmolLM2 on vLLM")
    parser.add_argument("--quick", action="store_true", help="one short round, no record")
    arguments = parser.parse_args()
    load = REAL if arguments.real else FAKE
    if arguments.quick:
        load = replace(load, rounds=1, arm_s=min(load.arm_s, 12.0))
    if arguments.real and not (ROOT / "models" / "smollm2-135m" / "config.json").is_file():
        print(f"fairness_real ratio=n/a bound<={TTFT_BOUND} not measured (no model: make serve)")
        return 1
    log.set_level("warning")
    record = uvloop.run(measure(load, Console(highlight=False)))
    return finish(record, keep=not arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
