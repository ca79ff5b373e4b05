"""What embeddings cost on their way through the gateway.

One site is started, and the same requests go in turn to its gateway and to the socket of the
engine behind it; each round has texts of its own, the same for both. First all-MiniLM-L6-v2 on
vLLM, where the bound is, then a fake engine that answers at once, which shows what the gateway
itself can carry. Nothing is pinned: an engine on a CPU uses every core, and what the gateway
takes from it is what is measured.
`python -m benchmarks.embeddings` (about 3 minutes), or `--quick` (one short round, no record).
"""

import argparse
import asyncio
import gc
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from benchmarks.contestants import ROOT, Contestant, Unusable, free_port
from benchmarks.gateway_real import end, serve
from benchmarks.load.cpu import cpu_s
from benchmarks.load.http import ask, post
from benchmarks.record import Figure, Record, Verdict, finish

MODEL: Final = "minilm-l6"
PATH: Final = "/v1/embeddings"
ENCODINGS: Final = ("float", "base64")
INPUTS: Final = 32
"""Texts in one request, as a program sends them that embeds documents."""
WORDS: Final = 24
STREAMS: Final = 4
ROUNDS: Final = 10
SEED: Final = 20261101
READY_TIMEOUT_S: Final = 400.0
ANSWER_TIMEOUT_S: Final = 120.0
BOUND: Final = 0.97
VOCABULARY: Final = (
    "the", "of", "river", "bank", "a", "stock", "market", "fell", "young", "cat", "sleeps", "near",
    "warm", "stove", "report", "says", "rain", "will", "come", "by", "evening", "and", "most",
    "trains", "are", "late", "because", "snow", "lies", "on", "old", "tracks",
)  # fmt: skip

SITE: Final = """\
site: embeddings
root: {root}
model_files: {root}/configs/models
var_dir: {var_dir}
engine_defaults: {{kind: {kind}}}
models: [{{use: {model}, cpu_kv_gib: 1}}]
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of engine, and how many requests each of the streams sends in a turn.

    `fresh`: every round has new texts. A fake engine makes vectors up slowly and keeps them.
    """

    kind: str
    requests: int
    fresh: bool


LOADS: Final = (Load("vllm", 3, fresh=True), Load("fake", 50, fresh=False))


@dataclass(frozen=True, slots=True)
class Turn:
    """What one target made of a round's texts."""

    per_s: float
    cpu_us: float
    """Processor time of the gateway for each vector."""


Turns = dict[tuple[str, str, str], list[Turn]]
"""(engine, encoding, target) → one Turn a round."""


@asynccontextmanager
async def site(kind: str, folder: Path) -> AsyncIterator[tuple[Contestant, Contestant]]:
    """The engine's own socket and the gateway before it, once both answer."""
    port = free_port()
    file = folder / "site.yaml"
    file.write_text(SITE.format(root=ROOT, var_dir=folder / "var", kind=kind, model=MODEL))
    server = serve(port, file)
    try:
        gateway = await _ready(server, port, folder / "var" / "starter.key")
        yield Contestant("direct", folder / "var" / "run" / f"{MODEL}.sock"), gateway
    finally:
        await end(server)


async def _ready(server: "subprocess.Popen[bytes]", port: int, key_file: Path) -> Contestant:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s and server.poll() is None:
        if key := _key(key_file):
            headers = {"authorization": f"Bearer {key}"}
            gateway = Contestant("inhouse", ("127.0.0.1", port), headers, (server.pid,))
            try:
                status, _ = await ask(gateway.address, _request(gateway, ["ready?"], "float"), 60)
            except (OSError, TimeoutError):
                status = 0
            if status == 200:
                return gateway
        await asyncio.sleep(0.2)
    raise Unusable("inhouse", "no answer from the engine")


def _key(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""


def _request(target: Contestant, texts: Sequence[str], encoding: str) -> bytes:
    body = {"model": MODEL, "input": texts, "encoding_format": encoding}
    return post(PATH, body, target.headers)


def _texts(rng: random.Random) -> list[str]:
    return [" ".join(rng.choices(VOCABULARY, k=WORDS)) for _ in range(INPUTS)]


async def turn(target: Contestant, batches: Sequence[list[str]], encoding: str) -> Turn:
    """Send all of them, STREAMS at a time; raises Unusable where one is not answered in full."""
    requests = [_request(target, texts, encoding) for texts in batches]
    left = iter(requests)

    async def stream() -> None:
        for request in left:
            status, body = await ask(target.address, request, ANSWER_TIMEOUT_S)
            if status != 200 or body.count(b'"embedding":') != INPUTS:
                raise Unusable(target.name, f"answered {status} {body[:200]!r}")

    gc.collect()
    before_s, begun_s = cpu_s(target.pids), time.perf_counter()
    await asyncio.gather(*(stream() for _ in range(STREAMS)))
    seconds = time.perf_counter() - begun_s
    vectors = INPUTS * len(requests)
    return Turn(vectors / seconds, (cpu_s(target.pids) - before_s) * 1e6 / vectors)


async def measure(rounds: int, out: Console) -> Record:
    """All rounds on both engines."""
    turns: Turns = {}
    for load in LOADS:
        with (
            tempfile.TemporaryDirectory(prefix="emb") as folder,
            out.status(f"{load.kind}: {rounds} rounds"),
        ):
            async with site(load.kind, Path(folder)) as targets:
                await _rounds(load, targets, rounds, turns)
    return _record(turns, rounds)


async def _rounds(
    load: Load, targets: tuple[Contestant, Contestant], rounds: int, turns: Turns
) -> None:
    rng = random.Random(SEED)
    batches = [_texts(rng) for _ in range(load.requests * STREAMS)]
    for target in targets:
        await turn(target, batches, "float")  # what the first requests set up is in no round
    for index in range(rounds):
        for encoding in ENCODINGS:
            if load.fresh:
                batches = [_texts(rng) for _ in batches]
            # A, B, B, A: what drifts in a minute falls on both sides alike.
            for target in targets if index % 2 else reversed(targets):
                found = await turn(target, batches, encoding)
                turns.setdefault((load.kind, encoding, target.name), []).append(found)


def _record(turns: Turns, rounds: int) -> Record:
    settings = {
        "rounds": rounds, "seed": SEED, "streams": STREAMS, "inputs_a_request": INPUTS,
        "words_a_text": WORDS, "model": MODEL, "pinned": False,
        "requests_a_turn": {one.kind: one.requests * STREAMS for one in LOADS},
        "transport": "the gateway by TCP on loopback, the engine by its Unix socket",
    }  # fmt: skip
    record = Record("embeddings", settings)
    for (kind, encoding, name), found in turns.items():
        at = f"{kind}/{encoding}/{name}"
        rates = tuple(one.per_s for one in found)
        record.figures.append(Figure(f"{at}/vectors_per_s", "per_s", rates))
        if name == "inhouse":
            if kind == "fake":  # too little beside a real one for a clock of 10 ms
                cpu = tuple(one.cpu_us for one in found)
                record.figures.append(Figure(f"{at}/cpu_us_per_vector", "us", cpu))
            bare = turns[kind, encoding, "direct"]
            pairs = zip(found, bare, strict=True)
            ratios = tuple(own.per_s / other.per_s for own, other in pairs)
            ratio = Figure(f"{kind}/{encoding}/throughput_of_direct", "ratio", ratios)
            record.figures.append(ratio)
            if kind == "vllm":
                record.verdicts.append(
                    Verdict(f"throughput_of_direct_{encoding}", "ratio", ">=", BOUND, ratio)
                )
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description="what embeddings cost on their way")
    parser.add_argument("--quick", action="store_true", help="one round, no record")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if not (ROOT / "models" / MODEL / "config.json").is_file():
        print(f"embeddings ratio=n/a bound>={BOUND} not measured (no models/{MODEL}: make models)")
        return 1
    out = Console(highlight=False)
    record = uvloop.run(measure(1 if arguments.quick else arguments.rounds, out))
    for figure in record.figures:
        out.print(f"{figure.name} {figure.unit}={figure}")
    return finish(record, keep=not arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
