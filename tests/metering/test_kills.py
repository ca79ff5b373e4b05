"""kill -9 in the midst of writes: not one token too many, and none of a whole answer lost."""

import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "kills",
    [30, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
)
def test_kills(kills: int, tmp_path: Path) -> None:
    seed = 20_26
    subprocess.run(
        [sys.executable, "-m", "tests.metering.killed", str(tmp_path), str(kills), str(seed)],
        cwd=ROOT, check=True, timeout=1700,
    )  # fmt: skip
    made, whole = _truth(tmp_path / "truth.txt")
    records, totals = _recorded(tmp_path / "inhouse.db")
    assert len(made) > kills
    lost = {name for name in made if name not in records}
    # A request whose beginning was written and whose truth was not can be there; none is missing.
    assert not lost
    wrong = []
    for name, (outcome, prompt, completion) in records.items():
        steps = made.get(name, [(0, 0)])
        if name in whole:
            right = (prompt, completion) == whole[name]
        else:
            # What was made last may not have been told yet; all before it has.
            right = (prompt, completion) in ((0, 0), *steps)[-2:]
            right = right and outcome in ("crashed", "cancelled")
        if not right:
            wrong.append((name, outcome, prompt, completion, steps))
    assert not wrong, f"seed {seed}: {len(wrong)} wrong, such as {wrong[0]}"
    assert totals == sum(prompt + completion for _, prompt, completion in records.values())
    assert sum(outcome == "crashed" for outcome, _, _ in records.values()) > kills / 2
    assert not list((tmp_path / "ledger").glob("*.journal"))


def _truth(path: Path) -> tuple[dict[str, list[tuple[int, int]]], dict[str, tuple[int, int]]]:
    made: dict[str, list[tuple[int, int]]] = defaultdict(list)
    whole: dict[str, tuple[int, int]] = {}
    for line in path.read_text().splitlines():
        what, name, prompt, completion = line.split()
        if what == "made":
            made[name].append((int(prompt), int(completion)))
        else:
            whole[name] = (int(prompt), int(completion))
    return made, whole


def _recorded(path: Path) -> tuple[dict[str, tuple[str, int, int]], int]:
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT request_id, outcome, prompt, completion FROM usage_records"
        ).fetchall()
        assert len({row[0] for row in rows}) == len(rows)
        (total,) = database.execute("SELECT sum(tokens) FROM usage_totals").fetchone()
    return {row[0]: row[1:] for row in rows}, total
