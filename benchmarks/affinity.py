"""What it is worth that a conversation returns to the replica that has it cached.

Two engines here answer the same requests in the same order, which share their beginnings as those
of a public trace do; `affinity` sends each where this server would, `round_robin` to the next one.
The arms alternate, and no arm finds what another has left in a cache. The figure is the share of
the prompts' tokens that the engines say they had cached.
`python -m benchmarks.affinity [--trace FILE]` (about 7 minutes), or `--quick` (one round of a few
requests, nothing is recorded).
"""

import argparse
import asyncio
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

from benchmarks.load.sse import Splitter, token_text, usage_of
from benchmarks.load.trace import NoTrace, Sample, conversation, prompt, read, sampled
from benchmarks.record import Figure, Record, Verdict, finish
from serve.core.call import Call, Principal
from serve.core.clock import SystemClock
from serve.core.errors import InhouseError
from serve.core.usage import Usage
from serve.engines.affinity import Affinity, Trail
from serve.engines.foundry import Foundry
from serve.engines.hardware import probe
from serve.engines.replicas import Chooser, Replicas
from serve.engines.resident import Resident
from serve.settings.load import load_site

ROOT: Final = Path(__file__).parent.parent
SITE: Final = ROOT / "configs" / "sites" / "quickstart.yaml"
TRACE: Final = ROOT.parent / "shared" / "data" / "traces" / "mooncake_conversation_trace.jsonl"
SAMPLE: Final = Sample(one_in=120, blocks_max=48, tokens_a_block=32)
TRACE_BLOCK_TOKENS: Final = 512
REPLICAS: Final = 2
ROUNDS: Final = 3
STREAMS: Final = 4
TOKENS_OUT: Final = 2
KV_GIB: Final = 1
CONTEXT_TOKENS: Final = 2048
QUICK_REQUESTS: Final = 16
READY_TIMEOUT_S: Final = 600.0
CLAIM_TIMEOUT_S: Final = 60.0
BOUND: Final = 1.2


class RoundRobin:
    """To each in turn, whatever the prompt."""

    def __init__(self) -> None:
        self._turns: Iterator[int] = itertools.count()

    def choose(self, trail: Trail, loads: Mapping[int, int]) -> int:
        members = sorted(loads)
        return members[next(self._turns) % len(members)]

    def remember(self, trail: Trail, member: int) -> None:
        pass

    def forget(self, member: int) -> None:
        pass


@dataclass(slots=True)
class Outcome:
    """What one round of one arm found."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    ttfts_s: list[float] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def cached_ratio(self) -> float:
        return self.cached_tokens / self.prompt_tokens

    def document(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens, "cached_tokens": self.cached_tokens,
            "took_s": self.took_s, "ttfts_s": [round(one, 4) for one in self.ttfts_s],
        }  # fmt: skip


@asynccontextmanager
async def engines(folder: Path) -> AsyncIterator[tuple[Resident, ...]]:
    """The replicas of one model, as a site with `replicas: 2` starts them here."""
    site = load_site(SITE)
    config = site.models[0].config.model_copy(
        update={
            "context_tokens": CONTEXT_TOKENS,
            "cpu_kv_gib": KV_GIB,
            "engine_args": {"enforce-eager": True},
        }
    )
    placed = {"config": config, "snapshot": None, "aliases": (), "replicas": REPLICAS}
    site = site.model_copy(
        update={"models": (site.models[0].model_copy(update=placed),), "var_dir": folder}
    )
    foundry = Foundry(site, probe(), os.environ, SystemClock())
    portfolio = foundry.portfolio(site.models, site.engine_defaults, STREAMS)
    await portfolio.start()
    try:
        for one in portfolio.residents():
            (await one.summon(READY_TIMEOUT_S)).release()
        yield portfolio.residents()
    finally:
        await portfolio.stop()


async def play(
    backend: Replicas, model: str, requests: Sequence[tuple[int, ...]], salt: str
) -> Outcome:
    """Ask all of them in their order, a few at a time. `salt` keeps caches apart.

    As in life, a turn of a conversation is asked after the one before it has been answered.
    """
    outcome = Outcome()
    left, busy = list(requests), set[tuple[int, ...]]()
    turn = asyncio.Condition()

    def following() -> tuple[int, ...] | None:
        return next((ids for ids in left if conversation(ids) not in busy), None)

    async def stream() -> None:
        while True:
            async with turn:
                await turn.wait_for(lambda: not left or following() is not None)
                if (ids := following()) is None:
                    return
                left.remove(ids)
                busy.add(conversation(ids))
            await _ask(backend, model, prompt(ids, SAMPLE.tokens_a_block), salt, outcome)
            async with turn:
                busy.remove(conversation(ids))
                turn.notify_all()

    begun_s = time.monotonic()
    await asyncio.gather(*(stream() for _ in range(STREAMS)))
    outcome.took_s = time.monotonic() - begun_s
    return outcome


async def _ask(backend: Replicas, model: str, text: str, salt: str, outcome: Outcome) -> None:
    body = {
        "model": model, "prompt": text, "max_tokens": TOKENS_OUT, "ignore_eos": True,
        "temperature": 0, "cache_salt": salt, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    sent_s = time.monotonic()
    call = Call("req", "completions", "/v1/completions", Principal("benchmark"), model, body, 1,
                True, sent_s)  # fmt: skip
    claim = await backend.claim(call, CLAIM_TIMEOUT_S)
    try:
        connection = await claim.client.post(call.path, orjson.dumps(body))
        splitter, first_s, usage = Splitter(), None, Usage()
        try:
            while data := await connection.next_bytes():
                for payload in splitter.feed(data):
                    if first_s is None and token_text(payload) is not None:
                        first_s = time.monotonic()
                    if said := usage_of(payload):
                        usage = Usage.of_engine(said)
        finally:
            claim.client.release(connection)
    finally:
        claim.release()
    if first_s is None or not usage.prompt:
        raise SystemExit(f"an engine answered {connection.status} and no token")
    outcome.ttfts_s.append(first_s - sent_s)
    outcome.prompt_tokens += usage.prompt
    outcome.cached_tokens += usage.cached


async def measure(
    folder: Path, requests: Sequence[tuple[int, ...]], rounds: int
) -> dict[str, list[Outcome]]:
    """Each arm's rounds; the order of the arms turns from round to round."""
    raw: dict[str, list[Outcome]] = {"affinity": [], "round_robin": []}
    async with engines(folder) as residents:
        model = residents[0].model.id
        names = [one.key for one in residents]

        def arm(chooser: Chooser) -> Replicas:
            return Replicas(model, dict(zip(names, residents, strict=True)), chooser=chooser)

        await play(arm(RoundRobin()), model, requests[:STREAMS], "warm-up")
        for turn in range(rounds):
            order = ("affinity", "round_robin") if turn % 2 == 0 else ("round_robin", "affinity")
            for name in order:
                # A new one for each round: it remembers nothing, as the caches under a new salt.
                chooser: Chooser = Affinity(names) if name == "affinity" else RoundRobin()
                outcome = await play(arm(chooser), model, requests, f"{name}-{turn}")
                raw[name].append(outcome)
                print(
                    f"round {turn + 1} {name}: {outcome.cached_ratio:.3f} cached, "
                    f"{median(outcome.ttfts_s):.3f} s to the first token, {outcome.took_s:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
    return raw


def judge(record: Record, raw: Mapping[str, Sequence[Outcome]]) -> None:
    """Each arm's figures, and affinity against round robin of the same round."""
    record.raw = {name: [one.document() for one in outcomes] for name, outcomes in raw.items()}

    def figure(name: str, unit: str, samples: Iterator[float]) -> Figure:
        record.figures.append(Figure(name, unit, tuple(samples)))
        return record.figures[-1]

    for name, outcomes in raw.items():
        figure(f"{name}_cached", "share of prompt tokens", (one.cached_ratio for one in outcomes))
        figure(f"{name}_ttft_p50", "s", (median(one.ttfts_s) for one in outcomes))
        figure(f"{name}_requests_per_s", "1/s", (len(o.ttfts_s) / o.took_s for o in outcomes))
    pairs = list(zip(raw["affinity"], raw["round_robin"], strict=True))
    gain = figure("gain", "ratio", (a.cached_ratio / b.cached_ratio for a, b in pairs))
    figure("ttft_p50_ratio", "ratio", (median(a.ttfts_s) / median(b.ttfts_s) for a, b in pairs))
    record.verdicts.append(Verdict("gain", "ratio", ">=", BOUND, gain))


def main() -> int:
    """Exit code 0 when the bound is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=TRACE, help="Mooncake's conversation trace")
    parser.add_argument("--quick", action="store_true", help="a few requests, nothing recorded")
    options = parser.parse_args()
    rows = read(options.trace)
    taken = sampled(rows, SAMPLE)
    if not taken:
        raise NoTrace(f"{options.trace}: too small: none of its conversations is in the sample")
    record = Record(
        benchmark="affinity",
        settings={
            "model": "smollm2-135m", "replicas": REPLICAS, "rounds": ROUNDS, "streams": STREAMS,
            "tokens_out": TOKENS_OUT, "kv_gib": KV_GIB, "context_tokens": CONTEXT_TOKENS,
            "trace": options.trace.name, "trace_requests": len(rows), "requests": len(taken),
            "conversations": len({conversation(ids) for ids in taken}),
            "one_conversation_in": SAMPLE.one_in,
            "blocks_max": SAMPLE.blocks_max, "tokens_a_block": SAMPLE.tokens_a_block,
        },
    )  # fmt: skip
    record.remarks = [
        f"lengths are scaled down: {SAMPLE.tokens_a_block} tokens stand for each block of "
        f"{TRACE_BLOCK_TOKENS} of the trace; answers are {TOKENS_OUT} tokens",
        f"one conversation in {SAMPLE.one_in} is taken, whole, with its requests of at most "
        f"{SAMPLE.blocks_max} blocks; arrival times are not kept: {STREAMS} closed-loop streams "
        "ask in the trace's order, but no turn before the one before it is answered",
        "cached tokens are what vLLM says in each answer's usage; a salt for each round and arm "
        "keeps their caches apart",
        "both engines compute on the same cores",
    ]
    folder = Path(tempfile.mkdtemp(prefix="iha-"))
    try:
        if options.quick:
            raw = asyncio.run(measure(folder, taken[:QUICK_REQUESTS], 1))
            print(*(f"{name}: {of[0].cached_ratio:.3f} cached" for name, of in raw.items()))
            return 0
        judge(record, asyncio.run(measure(folder, taken, ROUNDS)))
        return finish(record, keep=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (InhouseError, NoTrace) as error:
        sys.exit(str(error))
