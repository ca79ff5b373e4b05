import random

import pytest

from benchmarks.load.compare import Finding, compare
from benchmarks.load.metrics import summary
from benchmarks.load.result import Client, Objective, Result, Row
from serve.core.errors import SettingsError

GOAL = Objective(name="goal", ttft_s=1, tpot_s=1)
CLIENT = Client(lag_p99_s=0, lag_max_s=0, cpu_share=0, chunks_per_s_peak=1,
                ceiling_chunks_per_s=None, connections=1)  # fmt: skip


def row(number: int, ttft_s: float, tokens: int | None = 11, outcome: str = "ok") -> Row:
    first_s = number + ttft_s
    return Row.model_validate(
        {
            "id": number, "outcome": outcome, "intended_s": number, "sent_s": number,
            "first_token_s": first_s, "last_token_s": first_s + 0.1, "completion_tokens": tokens,
            "token_chunks": 11, "session": f"s{number // 2}",
        }
    )  # fmt: skip


def result(rows: list[Row], **changed: object) -> Result:
    values: dict[str, object] = {
        "driver": "open-loop", "started_at": "2026-11-24T00:00:00+00:00", "workload": "w",
        "workload_sha256": "a" * 64, "salt": "s", "url": "u", "model": "m", "models_answered": (),
        "valid": True, "marks": (), "verdict": "", "summary": summary(rows, 10.0, GOAL),
        "client": CLIENT, "machine": {"cpu": "c"}, "versions": {}, "commit": {}, "rows": rows,
    }  # fmt: skip
    return Result.model_validate(values | changed)


def times(scale: float, count: int = 100, seed: int = 1) -> list[Row]:
    rng = random.Random(seed)
    return [row(number, scale * rng.uniform(0.08, 0.12)) for number in range(count)]


def named(findings: tuple[Finding, ...], name: str) -> Finding:
    return next(one for one in findings if one.name == name)


def test_the_same_run_passes() -> None:
    found = compare(result(times(1.0)), result(times(1.0)), 0.05)
    assert found.judgement == "pass"
    assert {one.ratio for one in found.findings if one.ratio is not None} == {1.0}


def test_a_slower_run_fails_with_its_interval() -> None:
    found = compare(result(times(1.0)), result(times(1.5)), 0.05)
    ttft = named(found.findings, "TTFT p50")
    assert found.judgement == ttft.judgement == "fail"
    assert ttft.ratio is not None and ttft.low is not None and ttft.high is not None
    assert ttft.ratio == pytest.approx(1.5)
    assert ttft.low <= ttft.ratio <= ttft.high
    assert "slower" in ttft.words


def test_a_faster_run_passes_and_is_called_faster() -> None:
    found = compare(result(times(1.0)), result(times(0.5)), 0.0)
    assert "faster" in named(found.findings, "TTFT p50").words
    assert found.judgement == "pass"


def test_few_and_scattered_requests_are_inconclusive() -> None:
    first, second = (
        [row(n, random.Random(seed + n).uniform(0.05, 0.5)) for n in range(12)] for seed in (0, 50)
    )
    found = compare(result(first), result(second), 0.05)
    assert found.judgement == "inconclusive"
    assert not any(one.name == "TTFT p95" for one in found.findings)


def test_requests_that_begin_to_fail_fail_it() -> None:
    failing = [one.model_copy(update={"outcome": "cut"}) if one.id % 3 == 0 else one
               for one in times(1.0)]  # fmt: skip
    found = compare(result(times(1.0)), result(failing), 0.05)
    missed = named(found.findings, "missed goal")
    assert (missed.first, missed.second, missed.judgement) == (0.0, 0.34, "fail")
    assert named(found.findings, "TTFT p95").second == float("inf")


def test_a_shorter_answer_is_not_a_faster_one() -> None:
    short = [row(one.id, 0.05, tokens=2) for one in times(1.0)]
    found = compare(result(times(1.0)), result(short), 0.05)
    assert not any(one.name.startswith("E2E") for one in found.findings)
    assert "100 of 100 answers differ in length" in found.remarks[0]


def test_tokens_that_are_not_known_are_inconclusive() -> None:
    silent = [one.model_copy(update={"completion_tokens": None}) for one in times(1.0)]
    found = compare(result(times(1.0)), result(silent), 0.05)
    assert named(found.findings, "TPOT p50").judgement == "inconclusive"


def test_an_invalid_run_proves_nothing() -> None:
    bad = result(times(3.0), valid=False, marks=("client-bound: late",))
    found = compare(result(times(1.0)), bad, 0.05)
    assert found.judgement == "inconclusive"
    assert "the second run is INVALID: client-bound: late" in found.remarks


def test_two_workloads_are_not_compared() -> None:
    with pytest.raises(SettingsError, match="two workloads"):
        compare(result(times(1.0)), result(times(1.0), workload_sha256="b" * 64), 0.05)


def test_another_machine_and_day_are_said() -> None:
    other = result(times(1.0), machine={"cpu": "d"}, started_at="2026-11-25T00:00:00+00:00")
    remarks = compare(result(times(1.0)), other, 0.05).remarks
    assert "the clients ran on different machines" in remarks
    assert any(one.startswith("different days") for one in remarks)
