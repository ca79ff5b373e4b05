"""Figures of engines between starts."""

from pathlib import Path

import pytest

from serve.engines.memory import GIB, HOST, Footprint, Need
from serve.engines.records import ENTRIES_MAX, Record, Records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "memory.json"


def test_what_was_found_is_there_after_a_restart_and_the_largest_counts(path: Path) -> None:
    records = Records(path)
    records.put("k", Record(awake={HOST: 5, "gpu0": 9}, load_s=4))
    kept = records.put("k", Record(awake={HOST: 7}, load_s=3))
    assert kept == Record(awake={HOST: 7, "gpu0": 9}, load_s=3)
    records.put("k", Record(asleep={HOST: 2}))
    again = Records(path).get("k")
    assert again == Record(awake={HOST: 7, "gpu0": 9}, asleep={HOST: 2}, load_s=3)
    assert Records(path).get("other") is None
    assert [one.name for one in path.parent.iterdir()] == ["memory.json"], "no half-written file"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "engines": {"k": {}}}',
        b'{"version": 1, "engines": {"k": {"awake": {"host": -1}, "asleep": {}, "kv_bytes": 0, '
        b'"load_s": 1}}}',
    ],
)
def test_a_damaged_file_is_begun_anew_with_a_warning(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    records = Records(path)
    assert records.get("k") is None
    assert "is ignored" in caplog.text
    records.put("k", Record(awake={HOST: 1}))
    assert Records(path).get("k") == Record(awake={HOST: 1})


def test_a_file_cut_at_any_byte_is_survived(path: Path) -> None:
    Records(path).put("k", Record(awake={HOST: 7}, asleep={HOST: 2}, kv_bytes=3, load_s=1.5))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert Records(path).get("k") is None


def test_a_later_version_is_left_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"version": 2, "engines": {}}')
    assert Records(path).get("k") is None


def test_the_file_does_not_grow_for_ever(path: Path) -> None:
    records = Records(path)
    records._records = {f"old{at}": Record() for at in range(ENTRIES_MAX)}
    records.put("k", Record(awake={HOST: 1}))
    assert records.get("old0") is None
    assert records.get("old1") is not None
    assert len(records._records) == ENTRIES_MAX


def test_a_full_disk_ends_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.write_text("a file where the folder should be")
    kept = Records(path).put("k", Record(awake={HOST: 1}))
    assert kept.awake == {HOST: 1}
    assert "cannot be written" in caplog.text


def test_a_cache_of_another_size_is_counted_anew() -> None:
    found = Record(awake={HOST: 6 * GIB}, kv_bytes=4 * GIB)
    footprint = Footprint(Need({HOST: 9 * GIB}), "k", kv_bytes=GIB)
    assert found.need(footprint) == Need({HOST: 3 * GIB})
    assert found.larger(Record(awake={HOST: 3 * GIB}, kv_bytes=GIB)).awake == {HOST: 3 * GIB}


def test_a_device_needs_its_whole_share_however_little_was_found_on_it() -> None:
    estimate = Need({HOST: 9, "gpu0": 70}, {HOST: 5, "gpu0": 2}, sleep_level=2)
    need = Record(awake={HOST: 6, "gpu0": 60}, asleep={"gpu0": 1}).need(Footprint(estimate))
    assert need == Need({HOST: 6, "gpu0": 70}, {HOST: 5, "gpu0": 1}, sleep_level=2)
    need = Record(awake={HOST: 6, "gpu0": 71}).need(Footprint(estimate))
    assert need.awake["gpu0"] == 71
