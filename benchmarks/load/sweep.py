"""The highest rate at which a target keeps its service level, by bisection with repeats.

Rates rise until one fails, then the gap between the highest that held and the lowest that did not
is halved until it is narrow. A rate holds where, over all its repeats, at least 99 % of the
requests that were sent met every objective.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from benchmarks.load.result import Objective, Result
from benchmarks.load.workload import Strict

ATTAINMENT_MIN: Final = 0.99
GROWTH: Final = 2.0
RATES_MAX: Final = 20
"""A search that tries more rates than this has gone wrong."""

Ending = Literal["found", "never held", "held at the highest rate", "client-bound", "stopped"]


class Rate(Strict):
    """One rate, all its repeats."""

    rate_per_s: float
    sent: int
    met: int
    attainment: float
    valid: bool
    held: bool
    marks: tuple[str, ...]


class Sweep(Strict):
    """What was found, also where the search ended early."""

    format: Annotated[Literal["inhouse.sweep/1"], Field(alias="schema")] = "inhouse.sweep/1"
    objective: Objective
    url: str
    model: str
    workload: str
    workload_sha256: str
    ending: Ending
    highest_held_per_s: float | None
    lowest_failed_per_s: float | None
    rates: tuple[Rate, ...]
    runs: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look; rates in requests a second."""

    low_per_s: float
    high_per_s: float
    precision: float = 0.1
    """How near the two bounds must come, as a share."""
    repeats: int = 3


@dataclass(slots=True)
class Bracket:
    """What is known: the highest rate that held, the lowest that did not."""

    held: float | None = None
    failed: float | None = None

    def learn(self, rate: Rate) -> None:
        """Narrow it by one rate."""
        if rate.held:
            self.held = max(rate.rate_per_s, self.held or 0.0)
        elif self.failed is None or rate.rate_per_s < self.failed:
            self.failed = rate.rate_per_s


def next_rate(search: Search, known: Bracket) -> float | None:
    """What to try next; None where enough is known."""
    if known.failed is None:
        if known.held is None:
            return search.low_per_s
        return (
            None if known.held >= search.high_per_s else min(known.held * GROWTH, search.high_per_s)
        )
    if known.held is None:
        return None
    if known.failed / known.held <= 1 + search.precision:
        return None
    return math.sqrt(known.failed * known.held)


def pooled(rate_per_s: float, runs: list[Result]) -> Rate:
    """One rate of its repeats."""
    goods = [run.summary.goodput for run in runs if run.summary.goodput is not None]
    sent, met = sum(run.summary.sent for run in runs), sum(good.met for good in goods)
    attainment = met / sent if sent else 0.0
    marks = tuple(dict.fromkeys(mark for run in runs for mark in run.marks))
    valid = all(run.valid for run in runs)
    return Rate(
        rate_per_s=rate_per_s, sent=sent, met=met, attainment=attainment, valid=valid,
        held=valid and attainment >= ATTAINMENT_MIN, marks=marks,
    )  # fmt: skip


async def sweep(
    search: Search, run_at: Callable[[float, int], Awaitable[Result]],
    on_rate: Callable[[list[Rate], list[Result]], None], stopped: Callable[[], bool],
) -> tuple[Ending, list[Rate], list[Result]]:  # fmt: skip
    """Search. `run_at` runs a rate's repeat; `on_rate` keeps what there is so far."""
    known, rates, all_runs = Bracket(), list[Rate](), list[Result]()
    while len(rates) < RATES_MAX and (rate := next_rate(search, known)) is not None:
        runs = []
        for repeat in range(search.repeats):
            runs.append(await run_at(rate, repeat))
            all_runs.append(runs[-1])
            if stopped() or not runs[-1].summary.outcomes.get("ok"):
                break
        rates.append(pooled(rate, runs))
        known.learn(rates[-1])
        on_rate(rates, all_runs)
        if stopped():
            return "stopped", rates, all_runs
        if _client_bound(rates[-1]):
            return "client-bound", rates, all_runs
    return _ending(known), rates, all_runs


def _client_bound(rate: Rate) -> bool:
    return any(mark.startswith("client-bound") for mark in rate.marks)


def _ending(known: Bracket) -> Ending:
    if known.held is None:
        return "never held"
    return "held at the highest rate" if known.failed is None else "found"
