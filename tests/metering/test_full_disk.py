"""A small file system that fills up for real; where none can be mounted, there is no such test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APART = ("unshare", "--user", "--map-root-user", "--mount")


def test_a_disk_that_fills_up_stops_admission_loses_nothing_and_recovers(tmp_path: Path) -> None:
    mount = ("mount", "-t", "tmpfs", "none", str(tmp_path))
    try:
        able = subprocess.run([*APART, *mount], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*APART, sys.executable, "-m", "tests.metering.full", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert 500 <= found["refused_at"] < 20_000
    assert found["failing"]
    assert found["settled"] == found["refused_at"] + 200
    assert found["recorded"]
