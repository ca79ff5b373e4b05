from pathlib import Path

import orjson
import pytest

from benchmarks.record import (
    Figure,
    Record,
    Verdict,
    closing_line,
    exit_code,
    finish,
    machine,
    short,
)

RATIO = Figure("speedup", "ratio", (1.48, 1.53, 1.61))
COST = Figure("cost", "us", (40.0, 50.0, 60.0))


def test_closing_line_of_one_bound_shows_its_figure() -> None:
    verdict = Verdict("speedup", "ratio", ">=", 1.5, RATIO)
    line = closing_line("engine", [verdict])
    assert line == "engine ratio=1.53 (1.48–1.61) bound>=1.50 met"  # noqa: RUF001


def test_closing_line_of_several_bounds_shows_the_tightest_as_a_margin() -> None:
    roomy = Verdict("speedup", "ratio", ">=", 1.0, RATIO)
    tight = Verdict("cost", "us", "<=", 40.0, COST)
    line = closing_line("gateway", [roomy, tight])
    assert line == "gateway:cost ratio=0.80 (0.67–1.00) bound>=1.00 missed"  # noqa: RUF001


def test_closing_line_says_what_was_not_measured() -> None:
    verdicts = [
        Verdict("speedup", "ratio", ">=", 1.5, RATIO),
        Verdict("peer", "ms", "<=", None, COST, "make bench-peers"),
    ]
    assert closing_line("gateway", verdicts).endswith(":peer ratio=n/a bound>=1.00 not measured")
    assert exit_code(verdicts) == 1


@pytest.mark.parametrize(
    ("relation", "limit", "met"),
    [(">=", 1.53, True), (">=", 1.54, False), ("<=", 1.53, True), ("<=", 1.52, False)],
)
def test_the_median_is_judged(relation: str, limit: float, met: bool) -> None:
    verdict = Verdict("speedup", "ratio", relation, limit, RATIO)  # type: ignore[arg-type]
    assert verdict.met is met
    assert exit_code([verdict]) == (0 if met else 1)


def test_a_figure_needs_samples() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Figure("none", "ms", ())


def test_record_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record("engine", {"rounds": 3}, figures=[RATIO])
    record.verdicts = [Verdict("speedup", "ratio", ">=", 1.5, RATIO)]
    record.raw = {"ttft_ms": [1.0]}
    assert finish(record, keep=True, results=tmp_path) == 0
    document = orjson.loads((tmp_path / "engine.json").read_bytes())
    assert set(document) == {
        "schema", "benchmark", "date", "commit", "machine", "versions", "settings",
        "closing_line", "verdicts", "figures", "remarks", "raw",
    }  # fmt: skip
    assert document["figures"][0]["samples"] == [1.48, 1.53, 1.61]
    assert document["verdicts"][0]["verdict"] == "met"
    assert set(document["commit"]) == {"id", "with_changes"}
    assert capsys.readouterr().out.splitlines()[-1] == document["closing_line"]


def test_a_quick_run_keeps_nothing(tmp_path: Path) -> None:
    record = Record("engine", {}, verdicts=[Verdict("speedup", "ratio", ">=", 2.0, RATIO)])
    assert finish(record, keep=False, results=tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_machine_is_described_without_its_name() -> None:
    assert set(machine()) == {
        "cpu", "cores", "memory_gib", "kernel", "python", "load_1min_at_end",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(0.314, "0.31"), (14.04, "14.0"), (20432.7, "20,433"), (-0.2, "-0.20")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text
