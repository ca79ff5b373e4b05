"""What a swap of models takes: stop vLLM and start vLLM, against a swap by this server.

From the order to the first token of the new model, in rounds whose arms alternate. `restart` is
vLLM's own server, started by hand with the flags and environment that the hardware profile gives;
`swap` is the supervisor's stop and start with a warm standby; `fresh` the same without one. All
run eagerly; `--compiled` adds a swap to a model that is compiled, its cache kept (14 minutes).
`python -m benchmarks.swap` (about 8 minutes), or `--quick` (one swap, nothing is recorded).
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.record import Figure, Record, Verdict, finish
from serve.core.clock import SystemClock
from serve.core.errors import EngineError, InhouseError
from serve.engines.client import EngineClient
from serve.engines.hardware import Hardware, probe
from serve.engines.launch import LaunchPlan, plan
from serve.engines.process import SystemEffects, SystemProcess, private_directory
from serve.engines.profile import choose
from serve.engines.shape import shape_of
from serve.engines.standby import StandbyPool
from serve.engines.supervisor import EngineSupervisor
from serve.settings.load import load_site
from serve.settings.model import ServedModel

SITE: Final = Path(__file__).parent.parent / "configs" / "sites" / "quickstart.yaml"
SERVER: Final = "vllm.entrypoints.launchers.api_server.entry"
"""What the command `vllm serve` runs; the command itself does not know the CPU build's name."""
ROUNDS: Final = 3
KV_GIB: Final = 1
CONTEXT_TOKENS: Final = 2048
READY_TIMEOUT_S: Final = 600.0
WARM_TIMEOUT_S: Final = 120.0
ASK_EVERY_S: Final = 0.05
TOKEN_TIMEOUT_S: Final = 60.0
BOUND: Final = 1 / 3

Arm = Callable[[], Awaitable[float]]


class Bench:
    """Folders, models and launch plans of one run; compile caches are kept within it."""

    def __init__(self, folder: Path, hardware: Hardware) -> None:
        self._folder = folder
        self._hardware = hardware
        self.run_dir = private_directory(folder / "run")
        self.old, self.new = self._model("old"), self._model("new")
        self.compiled = self._model("compiled", eager=False)

    def _model(self, name: str, *, eager: bool = True) -> ServedModel:
        found = load_site(SITE).models[0]
        changes = {
            "name": name,
            "context_tokens": CONTEXT_TOKENS,
            "cpu_kv_gib": KV_GIB,
            "engine_args": {"enforce-eager": True} if eager else {},
        }
        # Neither a date nor aliases: three models of the same weights.
        return ServedModel(config=found.config.model_copy(update=changes))

    def launch(self, model: ServedModel) -> LaunchPlan:
        profile = choose(self._hardware, model, shape_of(model.config.source.path))
        return plan(
            model, profile, run_dir=self.run_dir, var_dir=self._folder,
            environ=os.environ, ready_timeout_s=READY_TIMEOUT_S,
        )  # fmt: skip

    def by_hand(self, model: ServedModel) -> LaunchPlan:
        """vLLM's own server with the same words and the same environment."""
        ours = self.launch(model)
        env = {name: value for name, value in ours.env.items() if name != "INHOUSE_ENGINE"}
        env["TMPDIR"] = str(private_directory(self._folder / "tmp"))
        return replace(ours, argv=(ours.argv[0], "-m", SERVER, *ours.argv[3:]), env=env)

    def supervisor(self, model: ServedModel, pool: StandbyPool) -> EngineSupervisor:
        return EngineSupervisor(model, self.launch(model), SystemEffects(pool), SystemClock())

    async def restart(self) -> float:
        """Stop vLLM, start vLLM; the same model."""
        launch = self.by_hand(self.new)
        async with self._server(launch):
            begun_s = time.monotonic()  # what its end takes counts
        async with self._server(launch):
            return time.monotonic() - begun_s

    @asynccontextmanager
    async def _server(self, launch: LaunchPlan) -> AsyncIterator[None]:
        """A server by hand that has answered with a token; it is gone at the end."""
        process = await SystemEffects().spawn(launch, "restart")
        try:
            await first_token(launch, self.new.id, process)
            yield
            process.terminate()
            await process.exited()
        finally:
            process.kill()
            await process.exited()
            await process.sweep()

    async def swap(self, model: ServedModel, standbys: int) -> float:
        """Stop one model and start another, one after the other, by this server."""
        pool = StandbyPool(standbys, self.run_dir)
        pool.keep([self.launch(model)])
        before, after = self.supervisor(self.old, StandbyPool(0, self.run_dir)), None
        try:
            await before.start()
            await before.wait_ready(READY_TIMEOUT_S)
            pool.start()
            async with asyncio.timeout(WARM_TIMEOUT_S):
                while pool.warm < standbys:  # noqa: ASYNC110 - what another process does
                    await asyncio.sleep(ASK_EVERY_S)
            begun_s = time.monotonic()
            await before.stop()
            after = self.supervisor(model, pool)
            await after.start()
            await after.wait_ready(READY_TIMEOUT_S)
            assert after.client is not None
            await after.client.probe_ready(model.id, "generate", TOKEN_TIMEOUT_S)
            return time.monotonic() - begun_s
        finally:
            await pool.stop()
            await before.stop()
            if after is not None:
                await after.stop()


async def first_token(launch: LaunchPlan, model: str, process: SystemProcess) -> None:
    """Wait until the server answers with a token."""
    ended = asyncio.create_task(process.exited())
    client = EngineClient(launch.socket)
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not ended.done():
                try:
                    await client.probe_ready(model, "generate", TOKEN_TIMEOUT_S)
                except EngineError:
                    await asyncio.sleep(ASK_EVERY_S)
                else:
                    return
        remains = await process.sweep()
        raise SystemExit(f"vLLM ended before it was ready: {remains.last_words}")
    finally:
        ended.cancel()
        await client.close()


async def measure(arms: dict[str, Arm], rounds: int) -> dict[str, list[float]]:
    """Seconds of each arm, round by round, after a round of ours that is not measured."""
    raw: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, arm in arms.items():
            if name == "restart" and not turn:
                continue  # each of its rounds begins with a start that is not measured
            took_s = await arm()
            note = f"round {turn}" if turn else "warm-up"
            print(f"{note} {name}: {took_s:.2f} s", file=sys.stderr, flush=True)
            if turn:
                raw[name].append(took_s)
    return raw


def judge(record: Record, raw: dict[str, list[float]]) -> None:
    """Seconds of each arm, and each against vLLM's restart of the same round."""
    record.raw = dict(raw)
    for name, samples in raw.items():
        record.figures.append(Figure(f"{name}_first_token", "s", tuple(samples)))
    for name in sorted(raw.keys() - {"restart"}):
        pairs = zip(raw[name], raw["restart"], strict=True)
        over = Figure(f"{name}_over_restart", "ratio", tuple(a / b for a, b in pairs))
        record.figures.append(over)
        if name == "swap":
            record.verdicts.append(Verdict(over.name, "ratio", "<=", BOUND, over))


def main() -> int:
    """Exit code 0 when the bound is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one swap, nothing recorded")
    parser.add_argument("--compiled", action="store_true", help="a compiled model too")
    options = parser.parse_args()
    hardware = probe()
    if hardware.gpus:
        raise SystemExit("this benchmark is about CPUs; a GPU's engines sleep and wake instead")
    folder = Path(tempfile.mkdtemp(prefix="ihs-"))
    try:
        bench = Bench(folder, hardware)
        if options.quick:
            print(f"swap: first token in {asyncio.run(bench.swap(bench.new, 1)):.1f} s")
            return 0
        record = Record(
            benchmark="swap",
            settings={
                "model": "smollm2-135m", "rounds": ROUNDS, "kv_gib": KV_GIB,
                "context_tokens": CONTEXT_TOKENS, "flags": _portable(bench.launch(bench.new)),
            },
        )  # fmt: skip
        record.remarks = [
            "each arm has started once before, unmeasured: its caches and files are warm",
            "restart and swap stop the old model before they start the new one",
            "waking a sleeping model (bound 1/10): not measured here, vLLM does not sleep on a CPU",
        ]
        arms: dict[str, Arm] = {
            "restart": bench.restart,
            "swap": lambda: bench.swap(bench.new, 1),
            "fresh": lambda: bench.swap(bench.new, 0),
        }
        if options.compiled:
            arms["compiled"] = lambda: bench.swap(bench.compiled, 1)
        judge(record, asyncio.run(measure(arms, ROUNDS)))
        print("swap:wake_over_restart not measured here (no GPU)")
        return finish(record, keep=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _portable(launch: LaunchPlan) -> list[str]:
    """The flags that are not folders of this machine."""
    return [word for word in launch.argv[3:] if "/" not in word]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InhouseError as error:
        sys.exit(error.message)
