"""Throughput of a real engine through Inhouse, against the same engine's own socket.

`python -m benchmarks.gateway --real`: starts the quickstart site, then alternates 16 streams to
the gateway with 16 streams to the Unix socket behind it. Nothing is pinned: an engine on a CPU
uses every core, and what the gateway takes from it is what is measured.
"""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from benchmarks.contestants import QUIET, ROOT, Contestant, Unusable, free_port
from benchmarks.load.http import UsageReader, ask, perform
from benchmarks.record import Figure, Record, Verdict, finish

SITE: Final = Path("configs/sites/quickstart.yaml")
MODEL: Final = "smollm2-135m"
STREAMS: Final = 16
TOKENS: Final = 64
PROMPT_NUMBERS: Final = 25
"""Four digits each, a token a digit: about 128 tokens with the template."""
READY_TIMEOUT_S: Final = 400.0
ANSWER_TIMEOUT_S: Final = 120.0
BOUND: Final = 0.98
ROUNDS_AT_LEAST: Final = 10
"""Pairs: an engine that takes every core feels whatever else the machine does."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What 16 streams begun at once came to."""

    tokens_per_s: float
    first_token_p50_s: float


def run(rounds: int, out: Console, *, keep: bool) -> int:
    """The real engine's part; returns the exit code."""
    if not (ROOT / "models" / MODEL / "config.json").is_file():
        print(f"gateway_real ratio=n/a bound>={BOUND} not measured (no models/{MODEL}: make serve)")
        return 1
    record = uvloop.run(_measure(max(rounds, ROUNDS_AT_LEAST) if keep else 1, out))
    return finish(record, keep=keep)


def serve(port: int, site: Path = SITE) -> "subprocess.Popen[bytes]":
    """A server of its own on this port; `end` it."""
    command = (
        sys.executable, "-m", "serve.cli", "serve", "--site", str(site), "--starter-key",
        "--port", str(port),
    )  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **QUIET}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


async def _measure(rounds: int, out: Console) -> Record:
    port = free_port()
    server = serve(port)
    batches: dict[str, list[Batch]] = {"direct": [], "inhouse": []}
    try:
        with out.status("starting the engine"):
            gateway = await ready(server, port)
        direct = Contestant("direct", ROOT / "var" / "run" / f"{MODEL}.sock", model=MODEL)
        with out.status(f"{rounds} rounds of {STREAMS} streams"):
            await _batch(direct)  # warms what the first batch compiles
            for index in range(rounds):
                # A, B, B, A: what drifts in a minute falls on both sides alike.
                pair = (direct, gateway) if index % 2 else (gateway, direct)
                for target in pair:
                    batches[target.name].append(await _batch(target))
    finally:
        await end(server)
    return _record(batches)


async def end(server: "subprocess.Popen[bytes]") -> None:
    """Stop a server that `serve` began, and all that it has started."""
    server.send_signal(signal.SIGTERM)
    try:
        await asyncio.to_thread(server.wait, 60)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)


def _record(batches: dict[str, list[Batch]]) -> Record:
    settings = {"streams": STREAMS, "tokens_out": TOKENS, "prompt_numbers": PROMPT_NUMBERS,
                "model": MODEL, "site": str(SITE), "pinned": False}  # fmt: skip
    record = Record("gateway_real", settings)
    for name, found in batches.items():
        for quantity in ("tokens_per_s", "first_token_p50_s"):
            samples = tuple(getattr(one, quantity) for one in found)
            unit = quantity.rpartition("_")[2] if quantity != "tokens_per_s" else "tokens/s"
            record.figures.append(Figure(f"{name}/{quantity}", unit, samples))
    ratios = tuple(
        own.tokens_per_s / bare.tokens_per_s
        for own, bare in zip(batches["inhouse"], batches["direct"], strict=True)
    )
    ratio = Figure("throughput_of_direct", "ratio", ratios)
    record.figures.append(ratio)
    record.verdicts = [Verdict("throughput_of_direct", "ratio", ">=", BOUND, ratio)]
    return record


async def _batch(target: Contestant) -> Batch:
    """16 streams at once; every prompt is new, so that no side finds it in the prefix cache."""
    begin_s = time.perf_counter()
    done = await asyncio.gather(*(_stream(target) for _ in range(STREAMS)))
    seconds = time.perf_counter() - begin_s
    tokens = sum(tokens for tokens, _ in done)
    firsts = sorted(first_s for _, first_s in done)
    return Batch(tokens / seconds, firsts[len(firsts) // 2])


async def _stream(target: Contestant) -> tuple[int, float]:
    """Completion tokens by the usage chunk, and seconds to the first token."""
    salt = secrets.randbits(32)
    numbers = " ".join(f"{(salt * place) % 9973:04d}" for place in range(1, PROMPT_NUMBERS))
    request = target.chat(
        f"{salt:010d} Tell a long story about these numbers: {numbers}", stream=True,
        max_tokens=TOKENS, temperature=0, ignore_eos=True, stream_options={"include_usage": True},
    )  # fmt: skip
    reader = UsageReader()
    exchange = await perform(target.address, request, reader, ANSWER_TIMEOUT_S)
    if exchange.failed or exchange.first_token_s is None or reader.completion_tokens is None:
        raise Unusable(target.name, f"answered {exchange.status} without tokens or usage")
    return reader.completion_tokens, exchange.first_token_s - exchange.sent_s


async def ready(server: "subprocess.Popen[bytes]", port: int) -> Contestant:
    """The gateway, once it answers a request from the engine."""
    key_file = ROOT / "var" / "starter.key"
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if server.poll() is not None:
            raise Unusable("inhouse", f"`inhouse serve` ended with {server.returncode}")
        if key_file.is_file():
            key = key_file.read_text().strip()
            headers = {"authorization": f"Bearer {key}"}
            gateway = Contestant("inhouse", ("127.0.0.1", port), headers, model=MODEL)
            try:
                status, _ = await ask(gateway.address, gateway.chat("Hi", max_tokens=1), 60)
            except (OSError, TimeoutError):
                status = 0
            if status == 200:
                return gateway
        await asyncio.sleep(1)
    raise Unusable("inhouse", f"no answer from the engine in {READY_TIMEOUT_S:g} s")
