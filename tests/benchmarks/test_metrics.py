import math

import pytest

from benchmarks.load.metrics import cached_ratio, e2e_s, meets, preset, summary, tpot_s, ttft_s
from benchmarks.load.result import Objective, Row

GOAL = Objective(name="goal", ttft_s=0.5, tpot_s=0.05)


def row(number: int = 0, **changed: object) -> Row:
    """Intended at 1 s, sent at 1.5, first token at 1.75, eleven tokens until 2.75."""
    values: dict[str, object] = {
        "id": number, "outcome": "ok", "status": 200, "intended_s": 1.0, "sent_s": 1.5,
        "first_token_s": 1.75, "last_token_s": 2.75, "end_s": 2.8, "token_chunks": 6,
        "prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 11,
    }  # fmt: skip
    return Row.model_validate(values | changed)


VECTORS = {
    "token_chunks": 0, "completion_tokens": None, "first_token_s": None, "last_token_s": None,
}  # fmt: skip
FAILED = row(outcome="quota", status=429, first_token_s=None, last_token_s=None)


def test_what_each_figure_is() -> None:
    assert ttft_s(row()) == 0.25
    assert tpot_s(row()) == pytest.approx(0.1)  # over usage's tokens, not the chunks that came
    assert e2e_s(row()) == 1.75  # from the intended send


def test_a_failure_is_infinitely_slow() -> None:
    assert ttft_s(FAILED) == tpot_s(FAILED) == e2e_s(FAILED) == math.inf


@pytest.mark.parametrize(
    "unknown",
    [{"completion_tokens": None}, {"doubt": "no usage"}, {"completion_tokens": 1}],
)
def test_time_per_token_is_not_guessed(unknown: dict[str, object]) -> None:
    assert tpot_s(row(**unknown)) is None


def test_percentiles_count_failures_and_raw_ones_do_not() -> None:
    rows = [row(number) for number in range(60)] + [FAILED] * 12
    found = summary(rows, 10.0, None)
    assert (found.ttft.p50, found.ttft.p95, found.ttft.p99) == (0.25, math.inf, None)
    assert (found.ttft.raw_p50, found.ttft.raw_p95) == (0.25, None)  # 60 do not support a p95
    assert (found.ttft.count, found.ttft.failures) == (60, 12)
    assert found.offered_per_s == 7.2


def test_time_per_token_is_withheld_where_answers_do_not_say_their_tokens() -> None:
    rows = [row(number) for number in range(5)] + [row(5, completion_tokens=None, doubt="no usage")]
    found = summary(rows, 1.0, None)
    assert found.tpot.p50 is None
    assert found.tpot.raw_p50 == pytest.approx(0.1)
    assert (found.tpot.unknown, found.doubted) == (1, 1)
    assert found.output_tokens_per_s is None


def test_goodput_is_over_the_window_and_attainment_over_all_sent() -> None:
    good = [row(number, first_token_s=1.6, last_token_s=2.0) for number in range(6)]
    slow = [row(6), row(7)]
    unsent = Row(id=9, outcome="unsent", intended_s=9.0)
    found = summary([*good, *slow, FAILED, FAILED, unsent], 3.0, GOAL)
    assert found.goodput is not None
    assert (found.goodput.met, found.goodput.per_s) == (6, 2.0)
    assert found.goodput.attainment == 0.6
    assert found.sent == 10
    assert found.outcomes == {"ok": 8, "quota": 2, "unsent": 1}


@pytest.mark.parametrize(
    ("changed", "met"),
    [
        ({"last_token_s": 2.2}, True),
        ({"last_token_s": 2.3}, False),
        ({"last_token_s": 2.2, "first_token_s": 2.1}, False),
        ({"completion_tokens": 1}, True),
        ({"completion_tokens": None}, False),
        ({"last_token_s": 2.2, "doubt": "a lie"}, False),
        (VECTORS | {"end_s": 1.9}, True),
        (VECTORS | {"end_s": 2.1}, False),
    ],
)
def test_every_objective_must_be_met_and_shown_to_be(changed: dict[str, object], met: bool) -> None:
    assert meets(row(**changed), GOAL) is met


def test_cached_tokens_that_are_not_told_are_not_zero() -> None:
    assert cached_ratio([row(), row(cached_tokens=0)]) == 0.2
    assert cached_ratio([row(), row(cached_tokens=None)]) is None
    assert cached_ratio([]) is None


def test_presets_are_in_seconds() -> None:
    found = preset("llama3.1-8b:interactive")
    assert (found.ttft_s, found.tpot_s) == (0.5, 0.03)
    with pytest.raises(KeyError):
        preset("llama3.1-8b")
