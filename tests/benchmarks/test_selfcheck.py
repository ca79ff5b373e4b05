from pathlib import Path

import pytest

from benchmarks.load.result import Row, save
from benchmarks.load.selfcheck import Step, _by_the_stub, errors, load, selfcheck
from benchmarks.load.stub import Pace
from serve.core.errors import SettingsError

PACE = Pace(ttft_s=0.1, gap_s=0.01)


def row(ttft_s: float, gap_s: float) -> Row:
    first_s = 1.0 + ttft_s
    return Row(
        id=0, outcome="ok", status=200, intended_s=1.0, sent_s=1.0, first_token_s=first_s,
        last_token_s=first_s + 10 * gap_s, completion_tokens=11, token_chunks=11,
    )  # fmt: skip


def test_errors_are_shares_of_what_the_stub_was_told() -> None:
    wrong = errors([row(0.11, 0.0102)] * 3, PACE)
    assert wrong == (pytest.approx(0.1), pytest.approx(0.02))
    assert errors([], PACE) == (1.0, 1.0)


def test_a_few_streams_that_are_wrong_do_not_hide_behind_the_median() -> None:
    rows = [row(0.1, 0.01)] * 90 + [row(0.1, 0.02)] * 10
    assert errors(rows, PACE)[1] == pytest.approx(1.0)


def step(told_truly: bool, late_s: float, cpu_share: float = 0.5) -> Step:
    return Step(
        asked_chunks_per_s=1, chunks_per_s=1, ttft_error=0, tpot_error=0, lag_p99_s=0,
        cpu_share=cpu_share, stub_late_p99_s=late_s, stub_cpu_share=1, told_truly=told_truly,
    )  # fmt: skip


def test_who_gave_way_first() -> None:
    assert _by_the_stub([step(True, 0)])
    assert _by_the_stub([step(True, 0), step(False, 0.1)])
    assert not _by_the_stub([step(True, 0), step(False, 0.001)])
    assert not _by_the_stub([step(True, 0), step(False, 0.1, cpu_share=1.0)])


async def test_a_ceiling_is_found_and_kept(tmp_path: Path) -> None:
    found = await selfcheck(step_s=1.0, rate_max=3000)
    assert {one.asked_chunks_per_s for one in found.steps} == {2500}
    assert all(one.chunks_per_s > 0 for one in found.steps)
    assert not any(one.told_truly for one in found.steps[:-1])  # tried again only after a failure
    last = found.steps[-1]
    assert found.ceiling_chunks_per_s == (last.chunks_per_s if last.told_truly else 0.0)
    save(tmp_path / "s.json", found)
    assert load(tmp_path / "s.json") == found


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_file_that_is_none_says_what_writes_one(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    with pytest.raises(SettingsError, match="inhouse bench selfcheck"):
        load(tmp_path / "s.json")
