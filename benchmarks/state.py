"""What kept state costs a turn, and whether it keeps the engine's prefix cache warm.

`turns`: 32 streams hold conversations over the fake engine. `stored` turns name the response
before (`previous_response_id`) and are kept; `unstored` ones resend the history and are not. The
arms alternate; the figure is what a stored turn takes longer, from its first byte to its last.
`prefix`: one conversation of 50 turns over a real engine in each way; the figure is the share of
the prompts' tokens that the engine had cached, against the share where the client resends all.
`python -m benchmarks.state` (about 6 minutes), or `--quick` (a few turns, nothing is recorded).
"""

import argparse
import asyncio
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
import uvloop

from benchmarks.contestants import ROOT, Contestant, Field, Pace, Stage, free_port
from benchmarks.gateway_real import MODEL, SITE, end, ready, serve
from benchmarks.load.http import Connection, WholeReader, connect, perform, post
from benchmarks.record import Figure, Record, Verdict, finish

STREAMS: Final = 32
DEPTH: Final = 10
"""Turns of one conversation; then a new one begins."""
ROUNDS: Final = 5
SECONDS: Final = 12.0
PACE: Final = Pace(tokens=16, ttft_ms=20, tpot_ms=5)
THINK_S: Final = (0.05, 0.25)
LONG_TURNS: Final = 50
LONG_TOKENS: Final = 8
ANSWER_TIMEOUT_S: Final = 60.0
COST_BOUND_MS: Final = 2.0
PREFIX_BOUND: Final = 0.9
RESPONSES: Final = "/v1/responses"
ARMS: Final = ("stored", "unstored")
SEED: Final = 20261123


@dataclass(slots=True)
class Talk:
    """One conversation in one of the two ways."""

    arm: str
    model: str
    items: list[dict[str, Any]] = field(default_factory=list)
    last: str | None = None
    turns: int = 0

    def request(self, text: str, **more: Any) -> dict[str, Any]:
        """The body of its next turn."""
        self.turns += 1
        said = {"type": "message", "role": "user", "content": text}
        self.items.append(said)
        if self.arm == "stored":
            own = {"store": True, "previous_response_id": self.last, "input": [said]}
        else:
            own = {"store": False, "input": self.items}
        return {"model": self.model, **own, **more}

    def answered(self, response: dict[str, Any]) -> None:
        """Take in what came of it."""
        if response["status"] not in ("completed", "incomplete"):
            raise SystemExit(f"a turn ended {response['status']}: {response['error']}")
        self.last = response["id"]
        self.items += response["output"]


def final(stream: bytes) -> dict[str, Any]:
    """The response object of a stream's last event."""
    last = stream.rstrip().rsplit(b"\n\n", 1)[-1]
    event: dict[str, Any] = orjson.loads(last.split(b"data: ", 1)[1])
    response: dict[str, Any] = event["response"]
    return response


async def talks(target: Contestant, arm: str, seconds: float, rng: random.Random) -> list[float]:
    """32 streams of conversations for so long; seconds from first to last byte of each turn."""
    took_s: list[float] = []
    end_s = time.perf_counter() + seconds

    async def stream(number: int) -> None:
        ended = asyncio.Event()
        connection = await connect(target.address, lambda _: ended.set())
        talk = Talk(arm, target.model)
        await asyncio.sleep(rng.uniform(0, 0.3))
        while time.perf_counter() < end_s:
            if talk.turns == DEPTH:
                talk = Talk(arm, target.model)
            body = talk.request(f"{number}.{talk.turns} " + "word " * 40, stream=True)
            reader = WholeReader()
            ended.clear()
            connection.send(post(RESPONSES, body, target.headers), reader)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await ended.wait()
            took_s.append(_took_s(connection, reader))
            talk.answered(final(reader.body))
            await asyncio.sleep(rng.uniform(*THINK_S))
        connection.abort()

    await asyncio.gather(*(stream(number) for number in range(STREAMS)))
    return took_s


def _took_s(connection: Connection, reader: WholeReader) -> float:
    exchange = connection.exchange
    connection.exchange = None
    if exchange is None or exchange.failed:
        raise SystemExit(f"a turn failed: {exchange} {reader.body[:300]!r}")
    return exchange.end_s - exchange.sent_s


async def turns(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Each arm's median milliseconds a turn, a round each."""
    rng = random.Random(SEED)
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory(prefix="state") as directory:
        async with Field(Stage(PACE, apart=False), ["inhouse"], Path(directory)) as field_:
            target = field_.contestants["inhouse"]
            await talks(target, "stored", 1.0, rng)
            for turn in range(rounds):
                for arm in ARMS if turn % 2 == 0 else ARMS[::-1]:
                    took_s = await talks(target, arm, seconds, rng)
                    found[arm].append(1000 * median(took_s))
                    _say(f"round {turn + 1} {arm}: {found[arm][-1]:.2f} ms, {len(took_s)} turns")
    return found


async def prefix(long_turns: int, rounds: int) -> dict[str, list[float]]:
    """Each arm's cached share of the prompts' tokens, a round each, on the real engine."""
    shares: dict[str, list[float]] = {arm: [] for arm in ARMS}
    port = free_port()
    server = serve(port)
    try:
        target = await ready(server, port)
        for turn in range(rounds):
            for arm in ARMS if turn % 2 == 0 else ARMS[::-1]:
                shares[arm].append(await _share(target, arm, long_turns))
                _say(f"round {turn + 1} {arm}: {shares[arm][-1]:.3f} cached")
    finally:
        await end(server)
    return shares


async def _share(target: Contestant, arm: str, long_turns: int) -> float:
    # Words of its own from the first block on: no arm finds what another has left.
    talk = Talk(arm, MODEL, items=[])
    mark = secrets.token_hex(8)
    prompt_tokens = cached_tokens = 0
    for number in range(long_turns):
        body = talk.request(
            f"{mark} {number}: name another colour.",
            max_output_tokens=LONG_TOKENS,
            temperature=0,
        )
        reader = WholeReader()
        request = post(RESPONSES, body, target.headers)
        exchange = await perform(target.address, request, reader, ANSWER_TIMEOUT_S)
        if exchange.failed:
            raise SystemExit(f"a turn failed: {exchange.status} {reader.body[:300]!r}")
        response = orjson.loads(reader.body)
        talk.answered(response)
        prompt_tokens += response["usage"]["input_tokens"]
        cached_tokens += response["usage"]["input_tokens_details"]["cached_tokens"]
    return cached_tokens / prompt_tokens


def judge(record: Record, took_ms: dict[str, list[float]], shares: dict[str, list[float]]) -> None:
    """Figures of each arm, and the bounds on the two between them."""

    def figure(name: str, unit: str, samples: Sequence[float]) -> Figure:
        one = Figure(name, unit, tuple(samples))
        record.figures.append(one)
        return one

    for arm in ARMS:
        figure(f"{arm}_turn_p50", "ms", took_ms[arm])
        figure(f"{arm}_cached_share", "ratio", shares[arm])
    added = [a - b for a, b in zip(*(took_ms[arm] for arm in ARMS), strict=True)]
    kept = [a / b for a, b in zip(*(shares[arm] for arm in ARMS), strict=True)]
    record.verdicts = [
        Verdict("stored_turn_added", "ms", "<=", COST_BOUND_MS, figure("added", "ms", added)),
        Verdict("cached_of_resent", "ratio", ">=", PREFIX_BOUND, figure("kept", "ratio", kept)),
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when both bounds are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.state")
    parser.add_argument("--quick", action="store_true", help="a few turns; keeps no record")
    quick = parser.parse_args(arguments).quick
    if not (ROOT / "models" / MODEL / "config.json").is_file():
        print(f"state ratio=n/a bound>={PREFIX_BOUND} not measured (no models/{MODEL}: make serve)")
        return 1
    rounds, long_turns = (1, 4) if quick else (ROUNDS, LONG_TURNS)
    record = Record(
        "state",
        {
            "streams": STREAMS, "depth": DEPTH, "rounds": rounds, "seconds": SECONDS,
            "pace": PACE.arguments(), "think_s": THINK_S, "long_turns": long_turns,
            "site": str(SITE), "cores": sorted(os.sched_getaffinity(0)),
        },
    )  # fmt: skip
    took_ms = uvloop.run(turns(rounds, 1.0 if quick else SECONDS))
    shares = uvloop.run(prefix(long_turns, max(1, rounds // 2)))
    judge(record, took_ms, shares)
    return finish(record, keep=not quick)


if __name__ == "__main__":
    sys.exit(main())
