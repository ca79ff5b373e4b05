"""Two runs of one workload held against each other: faster, slower, or not to be told.

The bootstrap draws the same requests of both runs (whole sessions where there are any), again and
again; the interval is the middle 95 % of the ratios. Efron and Tibshirani, An Introduction to the
Bootstrap, chapter 13 (percentile intervals).
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.load.metrics import e2e_s, meets, tpot_s, ttft_s
from benchmarks.load.percentile import needed, percentile
from benchmarks.load.result import Objective, Result, Row
from benchmarks.load.workload import Strict
from serve.core.errors import SettingsError

DRAWS: Final = 1000
SEED: Final = 20261101
COVERAGE: Final = 0.95

Judgement = Literal["pass", "fail", "inconclusive"]
Pair = tuple[Row, Row]


class Finding(Strict):
    """One figure: the second run over the first, lower is better, and how sure that is."""

    name: str
    first: float | None
    second: float | None
    ratio: float | None
    low: float | None
    high: float | None
    pairs: int
    judgement: Judgement
    words: str


class Comparison(Strict):
    """All figures and what they come to."""

    judgement: Judgement
    tolerance: float
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantile of a time; a failed request's is infinite."""

    name: str
    of: Callable[[Row], float | None]
    q: float


FIGURES: Final = tuple(
    Figure(f"{name} p{q * 100:.0f}", of, q)
    for name, of in (("TTFT", ttft_s), ("TPOT", tpot_s), ("E2E", e2e_s))
    for q in (0.5, 0.95)
)


def compare(first: Result, second: Result, tolerance: float) -> Comparison:
    """Whether the second is slower than the first by more than `tolerance`, as a share.

    Raises SettingsError where they are not of one workload.
    """
    if first.workload_sha256 != second.workload_sha256:
        raise SettingsError(
            f"these runs are of two workloads ({first.workload}, {second.workload}: their sha256 "
            "differ); run both with one file"
        )
    pairs = pairs_of(first, second)
    objective = _objective(first, second)
    findings = [_finding(one, _comparable(one, pairs), tolerance) for one in FIGURES]
    findings.append(_failing(pairs, objective, tolerance))
    shown = tuple(one for one in findings if one is not None)
    remarks = tuple(_remarks(first, second, pairs))
    return Comparison(
        judgement=_overall(shown, first.valid and second.valid), tolerance=tolerance,
        findings=shown, remarks=remarks,
    )  # fmt: skip


def pairs_of(first: Result, second: Result) -> list[Pair]:
    """The requests that were sent in both runs."""
    there = {row.id: row for row in second.rows if row.outcome != "unsent"}
    return [
        (row, there[row.id]) for row in first.rows if row.outcome != "unsent" and row.id in there
    ]


def _comparable(figure: Figure, pairs: Sequence[Pair]) -> Sequence[Pair]:
    """For E2E, only pairs with answers of about one length: a shorter one is not a faster one."""
    if figure.of is not e2e_s:
        return pairs
    return [pair for pair in pairs if _bucket(pair[0]) == _bucket(pair[1])]


def _bucket(row: Row) -> int | None:
    """Answers whose lengths differ by less than a factor of two; None where it is not known."""
    tokens = row.completion_tokens
    return None if tokens is None or row.doubt else tokens.bit_length()


def _finding(figure: Figure, pairs: Sequence[Pair], tolerance: float) -> Finding | None:
    """None where the sample is too small for the figure: it says nothing then."""
    if len(pairs) < needed(figure.q):
        return None
    known = [
        (pair, (one, other))
        for pair in pairs
        if (one := figure.of(pair[0])) is not None and (other := figure.of(pair[1])) is not None
    ]
    values = [value for _, value in known]

    def quantiles(indices: Sequence[int]) -> tuple[float | None, float | None]:
        one = percentile([values[index][0] for index in indices], figure.q)
        return one, percentile([values[index][1] for index in indices], figure.q)

    one, other = quantiles(range(len(values)))
    ratio = _ratio(one, other)
    drawn = [
        found for draw in _draws([pair for pair, _ in known])
        if (found := _ratio(*quantiles(draw))) is not None
    ]  # fmt: skip
    if ratio is None or not drawn:
        return _unknown(figure.name, one, other, len(values))
    return _judged(figure.name, (one, other, ratio), _interval(drawn), len(values), tolerance)


def _failing(
    pairs: Sequence[Pair], objective: Objective | None, tolerance: float
) -> Finding | None:
    """The share of requests that failed, or missed the objective where there is one."""
    if not pairs:
        return None

    bad = [(_bad(one, objective), _bad(other, objective)) for one, other in pairs]
    one, other = (sum(each[side] for each in bad) / len(bad) for side in (0, 1))
    low, high = _interval(
        [sum(bad[n][1] - bad[n][0] for n in draw) / len(draw) for draw in _draws(pairs)]
    )
    judgement: Judgement = "inconclusive"
    if low > tolerance:
        judgement = "fail"
    elif high <= tolerance:
        judgement = "pass"
    name = "failed" if objective is None else f"missed {objective.name}"
    words = f"{name} {one:.1%} → {other:.1%}, by {low:+.1%} to {high:+.1%}: {judgement}"
    return Finding(
        name=name, first=one, second=other, ratio=None, low=low, high=high, pairs=len(pairs),
        judgement=judgement, words=words,
    )  # fmt: skip


def _bad(row: Row, objective: Objective | None) -> bool:
    return row.outcome != "ok" if objective is None else not meets(row, objective)


def _draws(pairs: Sequence[Pair]) -> Iterator[list[int]]:
    """Indices of samples with replacement, of whole sessions; the same ones each time."""
    groups: dict[str, list[int]] = {}
    for index, (row, _) in enumerate(pairs):
        groups.setdefault(f"#{row.id}" if row.session is None else row.session, []).append(index)
    rng, units = random.Random(SEED), list(groups.values())
    for _ in range(DRAWS if units else 0):
        yield [index for unit in rng.choices(units, k=len(units)) for index in unit]


def _ratio(one: float | None, other: float | None) -> float | None:
    """None where there is none: not known, or both infinite."""
    if one is None or other is None or (math.isinf(one) and math.isinf(other)):
        return None
    if math.isinf(one):
        return 0.0
    return math.inf if math.isinf(other) else other / one if one > 0 else None


def _interval(drawn: Sequence[float]) -> tuple[float, float]:
    ordered, tail = sorted(drawn), (1 - COVERAGE) / 2
    last = len(ordered) - 1
    return ordered[round(tail * last)], ordered[round((1 - tail) * last)]


def _judged(
    name: str, found: tuple[float | None, float | None, float], interval: tuple[float, float],
    pairs: int, tolerance: float,
) -> Finding:  # fmt: skip
    (one, other, ratio), (low, high) = found, interval
    judgement: Judgement = "inconclusive"
    if low > 1 + tolerance:
        judgement = "fail"
    elif high <= 1 + tolerance:
        judgement = "pass"
    speed = "slower" if low > 1 else "faster" if high < 1 else "no difference shown"
    words = (
        f"{name} ratio {ratio:.3f} ({low:.3f} to {high:.3f}, {pairs} pairs): {speed}, {judgement}"
    )
    return Finding(
        name=name, first=one, second=other, ratio=ratio, low=low, high=high, pairs=pairs,
        judgement=judgement, words=words,
    )  # fmt: skip


def _unknown(name: str, one: float | None, other: float | None, pairs: int) -> Finding:
    return Finding(
        name=name, first=one, second=other, ratio=None, low=None, high=None, pairs=pairs,
        judgement="inconclusive", words=f"{name}: not known in both runs: inconclusive",
    )  # fmt: skip


def _objective(first: Result, second: Result) -> Objective | None:
    """The objective of both runs; None where they had none, or not the same."""
    goods = [one.summary.goodput for one in (first, second)]
    found = {good.objective if good else None for good in goods}
    return found.pop() if len(found) == 1 else None


def _overall(findings: Sequence[Finding], valid: bool) -> Judgement:
    """One failure fails it; all must pass for it to pass. Invalid runs prove nothing."""
    words = {one.judgement for one in findings}
    if not valid or not findings:
        return "inconclusive"
    if "fail" in words:
        return "fail"
    return "inconclusive" if "inconclusive" in words else "pass"


def _remarks(first: Result, second: Result, pairs: Sequence[Pair]) -> list[str]:
    found = []
    for name, one in (("first", first), ("second", second)):
        if not one.valid:
            found.append(f"the {name} run is INVALID: {'; '.join(one.marks)}")
    if first.machine.get("cpu") != second.machine.get("cpu"):
        found.append("the clients ran on different machines")
    if first.started_at[:10] != second.started_at[:10]:
        found.append("different days, so perhaps another network and another load")
    unlike = sum(_bucket(one) != _bucket(other) for one, other in pairs)
    if unlike:
        found.append(f"{unlike} of {len(pairs)} answers differ in length by a factor of two: "
                     "left out of E2E")  # fmt: skip
    return found
