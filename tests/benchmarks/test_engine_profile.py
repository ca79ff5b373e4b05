"""How raw samples of the arms become ratios and verdicts; no engine is started."""

from typing import Any

import pytest

from benchmarks.engine_profile import ARMS, judge
from benchmarks.record import Record, exit_code


def samples(ready_s: list[float], tokens_per_s: float, ttft_s: float) -> dict[str, list[Any]]:
    answers = {
        "ttft_s": (ttft_s * 9, ttft_s, ttft_s / 2),
        "single_tokens_per_s": 30.0,
        "tokens_per_s": tokens_per_s,
    }
    return {"ready_s": ready_s, "answers": [answers] * 3}


def judged(auto_tokens_per_s: float) -> Record:
    record = Record("engine_profile", {})
    raw = {
        "stock": samples([160, 120, 120, 120], 13, 3.0),
        "auto": samples([99, 30, 28, 26], auto_tokens_per_s, 0.25),
        "hand": samples([115, 52, 52, 52], 120, 0.25),
    }
    assert set(raw) == set(ARMS)
    judge(record, raw, [{"auto": [0.2, 0.9, 0.2], "hand": [0.3, 0.3, 0.9]}] * 2)
    return record


def test_ratios_are_of_the_same_round_and_the_first_start_is_no_second() -> None:
    found = {figure.name: figure for figure in judged(130).figures}
    assert found["throughput_over_stock"].value == 10
    assert found["ttft_under_stock"].value == 12
    assert found["second_ready_under_stock"].samples == (120 / 30, 120 / 28, 120 / 26)
    assert found["auto_first_ready"].samples == (99,)
    assert found["ttft_under_hand"].samples == pytest.approx((1.5, 1.5)), "a block's medians"


def test_a_missed_bound_is_an_exit_code() -> None:
    assert exit_code(judged(130).verdicts) == 0
    slower = judged(110)
    assert exit_code(slower.verdicts) == 1
    assert [one.name for one in slower.verdicts if not one.met] == ["throughput_over_hand"]
