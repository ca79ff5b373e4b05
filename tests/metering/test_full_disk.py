"""A small file system that fills up for real; where none can be mounted, there is no such test."""

from pathlib import Path

from tests.small_disk import found_by


def test_a_disk_that_fills_up_stops_admission_loses_nothing_and_recovers(tmp_path: Path) -> None:
    found = found_by("tests.metering.full", tmp_path)
    assert 500 <= found["refused_at"] < 20_000
    assert found["failing"]
    assert found["settled"] == found["refused_at"] + 200
    assert found["recorded"]
