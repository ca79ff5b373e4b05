"""The search alone: what a run finds is made up."""

import pytest

from benchmarks.load.result import Objective, Result
from benchmarks.load.sweep import Bracket, Ending, Rate, Search, next_rate, pooled, sweep
from tests.benchmarks.test_compare import result, times

GOAL = Objective(name="goal", ttft_s=1, tpot_s=1)
SEARCH = Search(low_per_s=1, high_per_s=100, precision=0.1, repeats=2)


def run_of(attainment: float, marks: tuple[str, ...] = (), answered: bool = True) -> Result:
    """A run of 1,000 requests, so many of which met the objective."""
    made = result(times(1.0, count=3), valid=not marks, marks=marks)
    assert made.summary.goodput is not None
    good = made.summary.goodput.model_copy(update={"met": round(attainment * 1000)})
    words = {"ok": 1000} if answered else {"unreachable": 1000}
    figures = made.summary.model_copy(update={"sent": 1000, "goodput": good, "outcomes": words})
    return made.model_copy(update={"summary": figures})


async def search(run_at: object, search: Search = SEARCH) -> tuple[Ending, list[Rate]]:
    kept: list[int] = []

    async def run(rate: float, repeat: int) -> Result:
        assert callable(run_at)
        found: Result = run_at(rate, repeat)
        return found

    ending, rates, _ = await sweep(
        search, run, lambda rates, runs: kept.append(len(runs)), lambda: False
    )
    assert len(kept) == len(rates)
    return ending, rates


@pytest.mark.parametrize("limit", [1.0, 7.3, 99.0])
async def test_the_limit_is_found_to_the_precision_asked_for(limit: float) -> None:
    ending, rates = await search(lambda rate, _: run_of(1.0 if rate <= limit else 0.9))
    held = max(one.rate_per_s for one in rates if one.held)
    failed = min(one.rate_per_s for one in rates if not one.held)
    assert ending == "found"
    assert held <= limit < failed <= held * 1.1


async def test_99_percent_is_enough_and_over_all_repeats() -> None:
    ending, rates = await search(lambda rate, repeat: run_of(1.0 if repeat else 0.98))
    assert ending == "held at the highest rate"
    assert {one.attainment for one in rates} == {0.99}
    _, rates = await search(lambda rate, repeat: run_of(1.0 if repeat else 0.97))
    assert [one.held for one in rates] == [False]


async def test_a_target_that_never_holds_says_so_at_once() -> None:
    ending, rates = await search(lambda rate, _: run_of(0.0, ("no request was answered",), False))
    assert (ending, len(rates), rates[0].sent) == ("never held", 1, 1000)


async def test_a_client_that_gives_way_ends_the_search() -> None:
    def run(rate: float, _: int) -> Result:
        return run_of(1.0, ("client-bound: late",) if rate > 5 else ())

    ending, rates = await search(run)
    assert ending == "client-bound"
    assert (rates[-1].attainment, rates[-1].held) == (1.0, False)


def test_rates_rise_then_close_in() -> None:
    assert next_rate(SEARCH, Bracket()) == 1
    assert next_rate(SEARCH, Bracket(held=1)) == 2
    assert next_rate(SEARCH, Bracket(held=64)) == 100
    assert next_rate(SEARCH, Bracket(held=100)) is None
    assert next_rate(SEARCH, Bracket(held=4, failed=9)) == 6
    assert next_rate(SEARCH, Bracket(held=4, failed=4.4)) is None
    assert next_rate(SEARCH, Bracket(failed=1)) is None


def test_a_rate_of_nothing_sent_did_not_hold() -> None:
    assert pooled(1.0, []).held is False
