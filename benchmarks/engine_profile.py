"""vLLM's own defaults against the profile `auto`, and the flags once tuned by hand, on a CPU.

Each arm is started through the same child entry and launch plan, one after another, in rounds.
Then `auto` and `hand` live side by side and are asked in turn, one at a time: their first tokens
differ by less than two rounds on a shared machine do.
`python -m benchmarks.engine_profile` (about 25 minutes), or `--quick` (`auto` alone, under a
minute once its compile cache is there; nothing is recorded).
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx

from benchmarks.record import Figure, Record, Verdict, finish
from serve.core.errors import InhouseError
from serve.engines.hardware import Hardware, probe
from serve.engines.launch import LaunchPlan, plan
from serve.engines.process import private_directory
from serve.engines.profile import Profile, choose, ranges
from serve.engines.shape import shape_of
from serve.settings.load import load_site
from serve.settings.model import ServedModel

SITE: Final = Path(__file__).parent.parent / "configs" / "sites" / "quickstart.yaml"
ARMS: Final = ("stock", "auto", "hand")
ROUNDS: Final = 3
STREAMS: Final = 16
TOKENS_IN: Final = 128
TOKENS_OUT: Final = 64
TTFT_SAMPLES: Final = 3
VOCABULARY: Final = range(1000, 40_000)
READY_TIMEOUT_S: Final = 600
STOP_TIMEOUT_S: Final = 30
KV_GIB: Final = 3
BLOCKS: Final = 6
PAIRS: Final = 10
"""First tokens of each of the two in one block; the block's medians make one sample."""
SETTLE_S: Final = 0.3
"""Between two questions: an engine's threads spin for up to 0.2 s after an answer."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one arm did in one round, once ready."""

    ttft_s: tuple[float, ...]
    single_tokens_per_s: float
    tokens_per_s: float


class Engine:
    """A vLLM server by a launch plan; used as a context, it is stopped at the end."""

    def __init__(self, launch: LaunchPlan, log: Path) -> None:
        self._launch = launch
        self._log = log
        self.ready_s = 0.0

    def __enter__(self) -> "Engine":
        self._launch.socket.unlink(missing_ok=True)
        began_s = time.monotonic()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._launch.argv, env=dict(self._launch.env), cwd=self._launch.cwd,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait_ready(began_s + READY_TIMEOUT_S)
        except BaseException:
            self.__exit__()
            raise
        self.ready_s = time.monotonic() - began_s
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _wait_ready(self, deadline_s: float) -> None:
        transport = httpx.HTTPTransport(uds=str(self._launch.socket))
        body = {"model": "m", "prompt": [1000], "max_tokens": 1}
        with httpx.Client(transport=transport, base_url="http://engine", timeout=120) as client:
            while time.monotonic() < deadline_s:
                if self._process.poll() is not None:
                    tail = "\n".join(self._log.read_text().splitlines()[-15:])
                    raise SystemExit(f"the engine ended before it was ready:\n{tail}")
                with contextlib.suppress(httpx.TransportError):
                    if client.post("/v1/completions", json=body).status_code == 200:
                        return
                time.sleep(0.1)
        raise SystemExit(f"the engine was not ready within {READY_TIMEOUT_S} s")

    def client(self) -> httpx.AsyncClient:
        """Requests to it."""
        transport = httpx.AsyncHTTPTransport(uds=str(self._launch.socket))
        return httpx.AsyncClient(
            transport=transport, base_url="http://engine", timeout=READY_TIMEOUT_S
        )

    async def answer(self, seed: int) -> Answers:
        """Time first tokens alone, then one stream, then STREAMS at once; no prompt twice."""
        source = random.Random(seed)
        async with self.client() as client:
            await _stream(client, source, 2)  # the first prompt of this length warms allocators
            ttft = [(await _stream(client, source, 1))[0] for _ in range(TTFT_SAMPLES)]
            first_s, whole_s, tokens = await _stream(client, source, TOKENS_OUT)
            began_s = time.monotonic()
            streams = [_stream(client, source, TOKENS_OUT) for _ in range(STREAMS)]
            done = await asyncio.gather(*streams)
            took_s = time.monotonic() - began_s
        total = sum(tokens for _, _, tokens in done)
        assert total == STREAMS * TOKENS_OUT, f"{total} tokens came"
        return Answers(tuple(ttft), (tokens - 1) / (whole_s - first_s), total / took_s)


async def _stream(
    client: httpx.AsyncClient, source: random.Random, tokens_out: int
) -> tuple[float, float, int]:
    """Seconds to the first token and to the last, and how many came."""
    body = {
        "model": "m",
        "prompt": [source.choice(VOCABULARY) for _ in range(TOKENS_IN)],
        "max_tokens": tokens_out,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began_s = time.monotonic()
    first_s, tokens = 0.0, 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event: dict[str, Any] = json.loads(line.removeprefix("data: "))
            if event["choices"] and not first_s:
                first_s = time.monotonic() - began_s
            elif event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    return first_s, time.monotonic() - began_s, tokens


def profiles(hardware: Hardware, model: ServedModel) -> dict[str, Profile]:
    """The three arms. All have a KV cache of the same size: the largest part of a start that is
    a matter of taste."""
    shape = shape_of(model.config.source.path)
    libraries = [lib for lib in (hardware.tools.tcmalloc, hardware.tools.libiomp) if lib]
    hand = {
        "VLLM_CPU_OMP_THREADS_BIND": ranges(hardware.nodes[0].cores),
        "VLLM_USE_AOT_COMPILE": "0",
        "LD_PRELOAD": ":".join(libraries),
    }
    arms = {
        "stock": choose(hardware, model, shape, "stock"),
        "auto": choose(hardware, model, shape),
        "hand": Profile({"dtype": "float32"}, hand, ()),
    }
    space = {"VLLM_CPU_KVCACHE_SPACE": str(KV_GIB)}
    return {
        name: Profile(arm.args, {**arm.env, **space}, arm.choices) for name, arm in arms.items()
    }


class Bench:
    """Folders and launch plans of one run. Compile caches start empty, one an arm."""

    def __init__(self, folder: Path, hardware: Hardware) -> None:
        self._folder = folder
        site = load_site(SITE)
        found = site.models[0]
        config = found.config.model_copy(update={"name": "m"})
        self.model = found.model_copy(update={"config": config})
        self.profiles = profiles(hardware, self.model)

    def start(self, arm: str) -> Engine:
        launch = plan(
            self.model, self.profiles[arm], run_dir=private_directory(self._folder / f"run-{arm}"),
            var_dir=self._folder / arm, environ=os.environ, ready_timeout_s=READY_TIMEOUT_S,
        )  # fmt: skip
        return Engine(launch, self._folder / f"{arm}.log")


def measure(bench: Bench, arms: tuple[str, ...], rounds: int) -> dict[str, dict[str, list[Any]]]:
    """Raw samples of each arm. The last round starts engines only: a third warm start."""
    raw: dict[str, dict[str, list[Any]]] = {arm: {"ready_s": [], "answers": []} for arm in arms}
    for turn in range(rounds + 1):
        for arm in arms:
            with bench.start(arm) as engine:
                raw[arm]["ready_s"].append(engine.ready_s)
                note = f"round {turn + 1} {arm}: ready in {engine.ready_s:.1f} s"
                if turn < rounds:
                    answers = asyncio.run(engine.answer(seed=turn))
                    raw[arm]["answers"].append(asdict(answers))
                    note += f", {answers.tokens_per_s:.1f} tokens/s"
                    note += f", TTFT {min(answers.ttft_s):.2f} s"
            print(note, file=sys.stderr, flush=True)
    return raw


def side_by_side(bench: Bench, arms: tuple[str, str]) -> list[dict[str, list[float]]]:
    """Seconds to first tokens of two engines that live at the same time, by block."""
    with bench.start(arms[0]) as one, bench.start(arms[1]) as other:
        engines = dict(zip(arms, (one, other), strict=True))
        blocks = asyncio.run(_in_turn(engines))
    for block in blocks:
        told = ", ".join(f"{arm} {median(found):.3f} s" for arm, found in block.items())
        print(f"side by side: {told}", file=sys.stderr, flush=True)
    return blocks


async def _in_turn(engines: Mapping[str, Engine]) -> list[dict[str, list[float]]]:
    source = random.Random(0)
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            arm: await stack.enter_async_context(engine.client()) for arm, engine in engines.items()
        }
        for client in clients.values():
            await _stream(client, source, 2)
        blocks: list[dict[str, list[float]]] = []
        for _ in range(BLOCKS):
            found: dict[str, list[float]] = {arm: [] for arm in clients}
            for pair in range(PAIRS):
                for arm in sorted(clients, reverse=bool(pair % 2)):
                    await asyncio.sleep(SETTLE_S)
                    found[arm].append((await _stream(clients[arm], source, 1))[0])
            blocks.append(found)
        return blocks


def judge(
    record: Record,
    raw: Mapping[str, Mapping[str, list[Any]]],
    blocks: list[dict[str, list[float]]],
) -> None:
    """Figures of each arm, ratios within rounds or blocks, and the bounds on them."""
    record.raw = {arm: dict(samples) for arm, samples in raw.items()} | {"side_by_side": blocks}
    speed: dict[str, list[float]] = {}
    ttft: dict[str, list[float]] = {}
    warm: dict[str, list[float]] = {}
    for arm, samples in raw.items():
        speed[arm] = [one["tokens_per_s"] for one in samples["answers"]]
        ttft[arm] = [sorted(one["ttft_s"])[len(one["ttft_s"]) // 2] for one in samples["answers"]]
        warm[arm] = samples["ready_s"][1:]
        single = [one["single_tokens_per_s"] for one in samples["answers"]]
        record.figures += [
            Figure(f"{arm}_tokens_per_s_{STREAMS}_streams", "tokens/s", tuple(speed[arm])),
            Figure(f"{arm}_tokens_per_s_1_stream", "tokens/s", tuple(single)),
            Figure(f"{arm}_ttft_{TOKENS_IN}_tokens", "s", tuple(ttft[arm])),
            Figure(f"{arm}_first_ready", "s", (samples["ready_s"][0],)),
            Figure(f"{arm}_second_ready", "s", tuple(warm[arm])),
        ]

    def bound(name: str, limit: float, over: list[float], under: list[float]) -> None:
        figure = Figure(name, "ratio", tuple(a / b for a, b in zip(over, under, strict=True)))
        record.figures.append(figure)
        record.verdicts.append(Verdict(name, "ratio", ">=", limit, figure))

    bound("throughput_over_stock", 8, speed["auto"], speed["stock"])
    bound("ttft_under_stock", 8, ttft["stock"], ttft["auto"])
    bound("second_ready_under_stock", 2, warm["stock"], warm["auto"])
    bound("throughput_over_hand", 1, speed["auto"], speed["hand"])
    beside = {arm: [median(one[arm]) for one in blocks] for arm in ("auto", "hand")}
    bound("ttft_under_hand", 1, beside["hand"], beside["auto"])
    bound("second_ready_under_hand", 1, warm["hand"], warm["auto"])


def quick(folder: Path, hardware: Hardware) -> int:
    with Bench(folder, hardware).start("auto") as engine:
        print(f"auto: ready in {engine.ready_s:.1f} s")
        answers = asyncio.run(engine.answer(seed=time.time_ns()))
    ttft_s = sorted(answers.ttft_s)[TTFT_SAMPLES // 2]
    print(
        f"{STREAMS} streams {answers.tokens_per_s:.1f} tokens/s, one "
        f"{answers.single_tokens_per_s:.1f}, TTFT of {TOKENS_IN} tokens {ttft_s:.3f} s"
    )
    return 0


def main() -> int:
    """Exit code 0 when every bound is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="auto alone, nothing recorded")
    options = parser.parse_args()
    hardware = probe()
    if hardware.gpus:
        raise SystemExit(
            "this benchmark is about CPUs; hide the GPUs (CUDA_VISIBLE_DEVICES is not enough)"
        )
    if options.quick:
        # Kept between runs, so that later ones start warm.
        folder = private_directory(Path(tempfile.gettempdir()) / f"inhouse-bench-{os.getuid()}")
        return quick(folder, hardware)
    folder = Path(tempfile.mkdtemp(prefix="inhouse-bench-"))
    try:
        bench = Bench(folder, hardware)
        record = Record(
            benchmark="engine_profile",
            settings={
                "model": "smollm2-135m", "streams": STREAMS, "tokens_in": TOKENS_IN,
                "tokens_out": TOKENS_OUT, "rounds": ROUNDS, "kv_gib": KV_GIB,
                "side_by_side": {"blocks": BLOCKS, "pairs": PAIRS, "settle_s": SETTLE_S},
                "profiles": {
                    arm: {"args": dict(one.args), "env": _portable(one.env)}
                    for arm, one in bench.profiles.items()
                },
            },
        )  # fmt: skip
        record.remarks = [
            "first_ready is with empty compile caches, second_ready with those kept",
            f"all arms have a KV cache of {KV_GIB} GiB; everything else of stock is unset",
        ]
        raw = measure(bench, ARMS, ROUNDS)
        judge(record, raw, side_by_side(bench, ("auto", "hand")))
        return finish(record, keep=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _portable(env: Mapping[str, str]) -> dict[str, str]:
    """Without the folders of this machine's libraries."""
    return {
        name: ":".join(Path(part).name for part in value.split(":")) if "/" in value else value
        for name, value in env.items()
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InhouseError as error:
        sys.exit(error.message)
