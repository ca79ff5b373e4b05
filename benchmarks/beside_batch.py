"""What people who ask feel of a batch that runs meanwhile, on a real engine.

Streamed chats arrive at random (Poisson) in windows; in every other window a batch of short
chats runs on the same model. Windows alternate A B B A, prompts are new each time, and every
figure is over all requests of a window pair. `python -m benchmarks.beside_batch` (about 18
minutes), or `--quick` (one short pair, no record).
"""

import argparse
import asyncio
import random
import secrets
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Final

import openai
import orjson
import uvloop
from rich.console import Console

from benchmarks.contestants import ROOT, Contestant, free_port
from benchmarks.gateway_real import MODEL, SITE, end, ready, serve
from benchmarks.load.http import TokenReader, perform
from benchmarks.load.percentile import percentile
from benchmarks.record import Figure, Record, Verdict, finish

ARRIVALS_PER_S: Final = 1.0
TOKENS: Final = 16
PROMPT_NUMBERS: Final = 25
"""Four digits each, a token a digit: about 128 tokens with the template."""
WINDOW_S: Final = 70.0
PAIRS: Final = 6
"""Enough requests of each arm for a 99th percentile."""
LINES: Final = 2000
LINE_TOKENS: Final = 64
SETTLE_S: Final = 3.0
"""For the batch to get going before requests come, and to be gone after it."""
POLL_S: Final = 0.5
POLLS_MAX: Final = 240
ANSWER_TIMEOUT_S: Final = 120.0
BOUND: Final = 1.2
SEED: Final = 20261124
ARMS: Final = ("alone", "beside")


def prompt(rng: random.Random) -> str:
    numbers = " ".join(f"{rng.randrange(10_000):04d}" for _ in range(PROMPT_NUMBERS))
    return f"{secrets.token_hex(5)} Tell a story about these numbers: {numbers}"


async def window(target: Contestant, seconds: float, rng: random.Random) -> list[float]:
    """Seconds to the first token of every request that arrived."""
    asked: list[asyncio.Task[float]] = []
    end_s = time.perf_counter() + seconds
    while (wait_s := rng.expovariate(ARRIVALS_PER_S)) < end_s - time.perf_counter():
        await asyncio.sleep(wait_s)
        asked.append(asyncio.create_task(_first_token(target, prompt(rng))))
    return list(await asyncio.gather(*asked))


async def _first_token(target: Contestant, text: str) -> float:
    request = target.chat(text, stream=True, max_tokens=TOKENS, temperature=0, ignore_eos=True)
    exchange = await perform(target.address, request, TokenReader(), ANSWER_TIMEOUT_S)
    if exchange.failed or exchange.first_token_s is None:
        raise SystemExit(f"a request was answered {exchange.status}")
    return exchange.first_token_s - exchange.sent_s


async def begin(client: openai.AsyncOpenAI, rng: random.Random) -> str:
    """A batch that lasts longer than a window; its id, once its first line is done."""
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": MODEL,
                "messages": [{"role": "user", "content": prompt(rng)}],
                "max_tokens": LINE_TOKENS,
            },
        }
        for number in range(LINES)
    ]
    content = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    batch = await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    for _ in range(POLLS_MAX):
        if await completed(client, batch.id):
            await asyncio.sleep(SETTLE_S)
            return batch.id
        await asyncio.sleep(POLL_S)
    raise SystemExit("the batch does not begin")


async def completed(client: openai.AsyncOpenAI, batch: str) -> int:
    """Lines that it has done."""
    found = await client.batches.retrieve(batch)
    if found.status in ("failed", "expired") or not found.request_counts:
        raise SystemExit(f"the batch ended {found.status}")
    return found.request_counts.completed


async def withdraw(client: openai.AsyncOpenAI, batch: str) -> None:
    """Cancel it and wait until it is."""
    await client.batches.cancel(batch)
    for _ in range(POLLS_MAX):
        if (await client.batches.retrieve(batch)).status == "cancelled":
            await asyncio.sleep(SETTLE_S)
            return
        await asyncio.sleep(POLL_S)
    raise SystemExit("the batch does not end")


async def measure(pairs: int, seconds: float, out: Console) -> Record:
    """All windows of both arms, on one server."""
    rng = random.Random(SEED)
    firsts: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    lines_per_s: list[float] = []
    port = free_port()
    server = serve(port)
    try:
        target = await ready(server, port)
        key = target.headers["authorization"].removeprefix("Bearer ")
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key) as sdk:
            await window(target, 5.0, rng)
            for index in range(pairs):
                for arm in ARMS if index % 2 == 0 else ARMS[::-1]:
                    batch = await begin(sdk, rng) if arm == "beside" else None
                    done = await completed(sdk, batch) if batch else 0
                    begun_s = time.perf_counter()
                    firsts[arm].append(await window(target, seconds, rng))
                    if batch:
                        rate = (await completed(sdk, batch) - done) / (
                            time.perf_counter() - begun_s
                        )
                        lines_per_s.append(rate)
                        await withdraw(sdk, batch)
                    found = firsts[arm][-1]
                    out.print(f"{arm}: p50 {median(found):.3f} s, {len(found)} requests")
    finally:
        await end(server)
    return _record(firsts, lines_per_s, seconds)


def _record(
    firsts: dict[str, list[list[float]]], lines_per_s: Sequence[float], seconds: float
) -> Record:
    record = Record(
        "beside_batch",
        {
            "arrivals_per_s": ARRIVALS_PER_S, "tokens_out": TOKENS, "window_s": seconds,
            "prompt_numbers": PROMPT_NUMBERS, "line_tokens": LINE_TOKENS, "model": MODEL,
            "site": str(SITE), "seed": SEED,
        },
    )  # fmt: skip

    def figure(name: str, unit: str, samples: Sequence[float]) -> Figure:
        one = Figure(name, unit, tuple(samples))
        record.figures.append(one)
        return one

    for arm in ARMS:
        figure(f"{arm}_ttft_p50", "s", [median(one) for one in firsts[arm]])
    figure("batch_lines_per_s", "1/s", lines_per_s)
    halves = [
        median(beside) / median(alone)
        for beside, alone in zip(firsts["beside"], firsts["alone"], strict=True)
    ]
    figure("ttft_p50_beside_over_alone", "ratio", halves)
    # One window has too few requests for its last percentile: the bound is on all of them.
    pooled = {arm: [one for each in firsts[arm] for one in each] for arm in ARMS}
    beside_s, alone_s = (percentile(pooled[arm], 0.99) for arm in reversed(ARMS))
    if beside_s is not None and alone_s is not None:
        over = figure("ttft_p99_beside_over_alone", "ratio", [beside_s / alone_s])
        record.verdicts = [Verdict("ttft_p99_beside_over_alone", "ratio", "<=", BOUND, over)]
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the bound is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_batch")
    parser.add_argument("--quick", action="store_true", help="one short pair; keeps no record")
    quick = parser.parse_args(arguments).quick
    if not (ROOT / "models" / MODEL / "config.json").is_file():
        print(f"beside_batch ratio=n/a bound<={BOUND} not measured (no models/{MODEL}: make serve)")
        return 1
    out = Console(highlight=False, stderr=True)
    pairs, seconds = (1, 15.0) if quick else (PAIRS, WINDOW_S)
    return finish(uvloop.run(measure(pairs, seconds, out)), keep=not quick)


if __name__ == "__main__":
    sys.exit(main())
