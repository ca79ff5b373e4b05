import os
from pathlib import Path

import pytest

from serve.weights import ledger as ledger_module
from serve.weights.digest import digest_of
from serve.weights.ledger import Ledger


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories that were read whole."""
    read: list[Path] = []

    def reading(directory: Path) -> str:
        read.append(directory)
        return digest_of(directory)

    monkeypatch.setattr(ledger_module, "digest_of", reading)
    return read


def test_a_directory_is_read_once(model_dir: Path, tmp_path: Path, readings: list[Path]) -> None:
    path = tmp_path / "cache" / "digests.json"
    first = Ledger(path).digest(model_dir)
    assert first == digest_of(model_dir)
    assert Ledger(path).digest(model_dir) == first
    assert readings == [model_dir]


@pytest.mark.parametrize("change", ["grown", "touched", "added", "removed"])
def test_a_change_is_seen(
    model_dir: Path, tmp_path: Path, readings: list[Path], change: str
) -> None:
    ledger = Ledger(tmp_path / "digests.json")
    before = ledger.digest(model_dir)
    match change:
        case "grown":
            (model_dir / "config.json").write_text("{  }")
        case "touched":
            os.utime(model_dir / "config.json", ns=(1, 1))
        case "added":
            (model_dir / "more.json").write_text("{}")
        case "removed":
            (model_dir / "config.json").unlink()
    assert (ledger.digest(model_dir) == before) == (change == "touched")
    assert len(readings) == 2


@pytest.mark.parametrize("text", ["", "[]", '{"/x": 3}', '{"/x": ["a"]}', "\x00"])
def test_a_damaged_ledger_is_begun_anew(model_dir: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "digests.json"
    path.write_text(text)
    assert Ledger(path).digest(model_dir) == digest_of(model_dir)


def test_it_does_not_grow_for_ever(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readings: list[Path]
) -> None:
    monkeypatch.setattr(ledger_module, "ENTRIES_MAX", 1)
    other = tmp_path / "other"
    other.mkdir()
    ledger = Ledger(tmp_path / "digests.json")
    for directory in (model_dir, other, model_dir):
        ledger.digest(directory)
    assert readings == [model_dir, other, model_dir]
