"""What the proof holds runs against; the runs themselves are its own."""

import pytest

from benchmarks.load.result import Row
from benchmarks.load.stub import Pace
from benchmarks.proof import STALLED, Found, _true_e2e_s, judge
from benchmarks.record import Record, exit_code


def test_what_falls_into_a_stall_is_written_at_its_end() -> None:
    pace = Pace(stall_at_s=3.0, stall_s=2.0)
    assert [pace.released_s(at_s, 10.0) for at_s in (12.9, 13.0, 14.9, 15.0)] == [
        12.9, 15.0, 15.0, 15.0,
    ]  # fmt: skip
    assert Pace().released_s(1.0, 1.0) == 1.0


def test_the_truth_is_from_when_a_request_was_due() -> None:
    """One well before the stall, one a second before its end, sent late."""
    rows = [
        Row(id=0, outcome="ok", intended_s=0.0, sent_s=0.0),
        Row(id=1, outcome="ok", intended_s=4.0, sent_s=4.5),
    ]
    plain_s = STALLED.ttft_s + (STALLED.tokens - 1) * STALLED.gap_s
    assert _true_e2e_s(rows) == [pytest.approx(plain_s), pytest.approx(1.0)]


def judged(**samples: float) -> Record:
    record, found = Record("proof", {}), Found()
    good = {
        "ceiling": 60_000.0, "ttft_error_at_5%": 0.01, "valid_at_5%": 1.0,
        "invalid_above_half": 1.0, "stall_mean_open_s": 9.0, "locust_wrong_800_users": 0.9,
        "locust_vouched_error": 0.02, "locust_ceiling": 1.0,
    }  # fmt: skip
    for name, value in (good | samples).items():
        found.add(name, value)
    judge(record, found)
    return record


def test_figures_without_a_bound_are_not_judged() -> None:
    record = judged()
    assert exit_code(record.verdicts) == 0
    assert {one.name for one in record.verdicts} == {
        "ceiling", "ttft_error_at_5%", "valid_at_5%", "invalid_above_half", "locust_vouched_error",
    }  # fmt: skip
    assert len(record.figures) == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ceiling", 29_999.0), ("ttft_error_at_5%", 0.031), ("valid_at_5%", 0.0),
        ("invalid_above_half", 0.0), ("locust_vouched_error", 0.04),
    ],
)  # fmt: skip
def test_each_bound_can_be_missed(name: str, value: float) -> None:
    assert exit_code(judged(**{name: value}).verdicts) == 1
