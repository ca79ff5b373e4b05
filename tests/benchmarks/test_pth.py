import hashlib
from pathlib import Path

from benchmarks.pth import EXPECTED, expected, unexpected


def environment(tmp_path: Path, name: str, text: str) -> Path:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (site / name).write_text(text)
    return tmp_path


def test_an_unknown_hook_is_refused(tmp_path: Path) -> None:
    (found,) = unexpected(environment(tmp_path, "innocent.pth", "import os\n"), set())
    assert "innocent.pth" in found


def test_a_known_name_with_other_content_is_refused(tmp_path: Path) -> None:
    known = {(hashlib.sha256(b"good").hexdigest(), "known.pth")}
    assert unexpected(environment(tmp_path, "known.pth", "bad"), known)


def test_a_known_hook_is_let_through(tmp_path: Path) -> None:
    known = {(hashlib.sha256(b"good").hexdigest(), "known.pth")}
    assert unexpected(environment(tmp_path, "known.pth", "good"), known) == []


def test_sitecustomize_is_a_hook(tmp_path: Path) -> None:
    assert unexpected(environment(tmp_path, "sitecustomize.py", ""), set())


def test_the_shipped_list_is_of_digests_and_names() -> None:
    known = expected(EXPECTED.read_text())
    assert known
    assert all(len(digest) == 64 and name.endswith(".pth") for digest, name in known)
