"""What the gateway costs: the same fake engine directly, through Inhouse, and through peers.

Run as `python -m benchmarks.gateway`; see benchmarks/README.md for what is measured and how.
`--quick` takes under a minute and keeps no record, `--real` measures a real engine instead.
"""

import argparse
import gc
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from benchmarks import gateway_real
from benchmarks.contestants import (
    GATEWAY_CORE,
    LOAD_CORE,
    Contestant,
    Field,
    Unusable,
    absent,
    peer_version,
)
from benchmarks.gateway_table import markdown, shown
from benchmarks.load.loops import TooManyFailures
from benchmarks.record import RESULTS, Figure, Record, Verdict, finish
from benchmarks.scenarios import (
    PACED,
    PROMPT,
    SCENARIOS,
    STAGES,
    STREAMS,
    UNPACED,
    Round,
    Scenario,
    backend_of,
)

CONTESTANTS: Final = ("direct", "inhouse", "router", "litellm")
ROUNDS: Final = 5
SEED: Final = 20261101

Turns = dict[tuple[str, str], list[Round]]
"""(scenario, contestant) → one Round a round."""


class Tournament:
    """Plays scenarios in alternating rounds; keeps what came of them and who fell out, and why."""

    def __init__(self, rounds: int, shorter: float, out: Console) -> None:
        self.turns: Turns = {}
        self.missing: dict[str, str] = {}
        self._rounds = rounds
        self._shorter = shorter
        self._out = out
        self._rng = random.Random(SEED)

    async def play(self, scenarios: Sequence[Scenario], names: Sequence[str]) -> None:
        """All rounds of scenarios of one stage; a peer that does not start is left out."""
        with tempfile.TemporaryDirectory(prefix="gw") as directory:
            while True:
                present = [name for name in names if name not in self.missing]
                try:
                    async with Field(scenarios[0].stage, present, Path(directory)) as field:
                        for scenario in scenarios:
                            await self._play_one(field, scenario)
                    return
                except Unusable as failure:
                    if not _is_peer(failure.name):
                        raise
                    self.missing[failure.name] = str(failure)

    async def _play_one(self, field: Field, scenario: Scenario) -> None:
        everyone = list(field.contestants.values())
        for index in range(self._rounds):
            with self._out.status(f"{scenario.title}, round {index + 1} of {self._rounds}"):
                shift = index % len(everyone)
                for target in everyone[shift:] + everyone[:shift]:
                    if target.name not in self.missing:
                        await self._turn(field, scenario, target)

    async def _turn(self, field: Field, scenario: Scenario, target: Contestant) -> None:
        gc.collect()
        backend = backend_of(target, field.contestants["direct"])
        seconds = scenario.seconds * self._shorter
        try:
            turn = await scenario.turn(target, backend, seconds, self._rng)
        except (TooManyFailures, TimeoutError) as failure:
            if not _is_peer(target.name):
                raise
            self.missing[target.name] = f"{scenario.name}: {failure or 'timed out'}"
        else:
            self.turns.setdefault((scenario.name, target.name), []).append(turn)


def figures_of(turns: Turns) -> dict[str, Figure]:
    """Every figure by `scenario/contestant/quantity`; added TTFT is against the same round."""
    figures: dict[str, Figure] = {}
    for (scenario, name), rounds in turns.items():
        for quantity in sorted(set.intersection(*(set(one.figures) for one in rounds))):
            key = f"{scenario}/{name}/{quantity}"
            unit = quantity.rpartition("_")[2]
            figures[key] = Figure(key, unit, tuple(one.figures[quantity] for one in rounds))
        if name != "direct" and scenario.startswith("ttft"):
            key = f"{scenario}/{name}/added_p50_ms"
            bare = turns[(scenario, "direct")]
            added = tuple(
                one.figures["p50_ms"] - other.figures["p50_ms"]
                for one, other in zip(rounds, bare, strict=False)
            )
            figures[key] = Figure(key, "ms", added)
    return figures


def verdicts_of(turns: Turns, figures: dict[str, Figure], missing: dict[str, str]) -> list[Verdict]:
    """The bounds of the gateway's cost."""

    def fixed(name: str, unit: str, relation: str, limit: float, key: str) -> Verdict:
        rounds = turns[(key.split("/", maxsplit=1)[0], "inhouse")]
        doubt = next((one.doubt for one in rounds if one.doubt), "")
        figure: Figure | None = figures[key]
        if relation == ">=":
            # A client-bound rate is a floor of the gateway's own: it can show that a bound is
            # kept, never that it is not.
            if doubt and figures[key].value < limit:
                figure = None
            return Verdict(name, unit, ">=", limit, figure, doubt and "client-bound: at least this")
        return Verdict(name, unit, "<=", limit, figure)

    def against_router(name: str, scenario: str) -> Verdict:
        router = figures.get(f"{scenario}/router/added_p50_ms")
        limit = None if router is None else max(router.value, 0.0)
        note = "vllm-router's" if router else f"vllm-router: {missing.get('router', 'absent')}"
        own = figures[f"{scenario}/inhouse/added_p50_ms"]
        return Verdict(name, "ms", "<=", limit, own, note)

    return [
        fixed("added_ttft_1_stream", "ms", "<=", 1.5, "ttft_1/inhouse/added_p50_ms"),
        against_router("added_ttft_32_streams", "ttft_32"),
        against_router("added_ttft_32_streams_full", "ttft_32_full"),
        fixed("cpu_per_paced_chunk", "us", "<=", 40, "paced_chunks/inhouse/cpu_us"),
        fixed("requests_per_core", "per_s", ">=", 1500, "unstreamed/inhouse/per_s"),
        fixed("cpu_per_request", "us", "<=", 600, "unstreamed/inhouse/cpu_us"),
        fixed("chunks_per_core", "per_s", ">=", 20000, "streamed/inhouse/per_s"),
        fixed("cpu_per_chunk", "us", "<=", 40, "streamed/inhouse/cpu_us"),
    ]


async def measure(rounds: int, shorter: float, names: Sequence[str], out: Console) -> Record:
    """The whole benchmark."""
    tournament = Tournament(rounds, shorter, out)
    tournament.missing |= {name: why for name in names if (why := absent(name))}
    for stage in STAGES:
        await tournament.play([one for one in SCENARIOS if one.stage == stage], names)
    turns, missing = tournament.turns, tournament.missing
    figures = figures_of(turns)
    return Record(
        "gateway",
        _settings(rounds, shorter),
        figures=list(figures.values()),
        verdicts=verdicts_of(turns, figures, missing),
        versions={f"peer {name}": peer_version(name) for name in names if _is_peer(name)},
        remarks=[f"{name}: not measured: {why}" for name, why in missing.items()],
        raw={
            f"{scenario}/{name}": [
                {"ttft_ms": one.raw_ms, "doubt": one.doubt, **one.figures} for one in turn
            ]
            for (scenario, name), turn in turns.items()
        },
    )


def _is_peer(name: str) -> bool:
    return name in ("router", "litellm")


def _settings(rounds: int, shorter: float) -> dict[str, object]:
    return {
        "rounds": rounds,
        "seed": SEED,
        "streams": STREAMS,
        "prompt": PROMPT,
        "paced_fake": {"tokens": 64, "ttft_ms": PACED.ttft_ms, "tpot_ms": PACED.tpot_ms},
        "unpaced_fake": {"tokens": UNPACED.tokens, "tokens_of_long_streams": 2000},
        "seconds_a_turn": {one.name: one.seconds * shorter for one in SCENARIOS},
        "cores_at_saturation": {"gateway": GATEWAY_CORE, "client and backend": LOAD_CORE},
        "transport": "TCP on loopback; Inhouse reaches its own fake engine over a Unix socket",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="what the gateway costs")
    parser.add_argument("--quick", action="store_true", help="under a minute, no record")
    parser.add_argument("--real", action="store_true", help="a real engine, in its own record")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS[2:], help="these peers only")
    arguments = parser.parse_args()
    out = Console(highlight=False)
    if arguments.real:
        return gateway_real.run(arguments.rounds, out, keep=not arguments.quick)
    if len(os.sched_getaffinity(0)) < 2:
        print("this benchmark needs two cores: one for a gateway, one for its load")
        return 1
    gc.freeze()
    names = ["direct", "inhouse", *(arguments.only or CONTESTANTS[2:])]
    # LiteLLM alone needs a third of a quick run's time to start.
    if arguments.quick:
        names = [name for name in names if name != "litellm"]
    rounds, shorter = (1, 0.5) if arguments.quick else (arguments.rounds, 1.0)
    record = uvloop.run(measure(rounds, shorter, names, out))
    out.print(shown(record))
    for remark in record.remarks:
        out.print(remark)
    code = finish(record, keep=not arguments.quick)
    if not arguments.quick:
        (RESULTS / "gateway.md").write_text(markdown(RESULTS / "gateway.json"))
    return code


if __name__ == "__main__":
    sys.exit(main())
