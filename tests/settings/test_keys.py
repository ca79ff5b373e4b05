import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.core.errors import SettingsError, SetupError
from serve.settings import keys
from serve.settings.keys import digest_of, new_key, starter_key


def test_keys_are_random_and_in_the_usual_form() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    # 256 bits in base64 are 43 characters.
    assert all(key.startswith("sk-") and len(key) == 46 for key in made)
    assert {len(digest_of(key)) for key in made} == {64}


def test_the_starter_key_is_the_same_at_every_start(tmp_path: Path) -> None:
    file = tmp_path / "var" / "starter.key"
    key = starter_key(file)
    assert starter_key(file) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == key + "\n"
    file.unlink()
    assert starter_key(file) != key


def test_those_who_start_at_the_same_time_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=6) as pool:
        made = list(pool.map(lambda _: starter_key(tmp_path / "starter.key"), range(12)))
    assert len(set(made)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_may_use_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    starter = tmp_path / "starter.key"
    starter_key(starter)
    starter.chmod(mode)
    with pytest.raises(SettingsError, match=f"mode {mode:04o}.*; run: chmod 600 {starter}"):
        starter_key(starter)


def test_a_held_folder_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOCK_WAIT_S", 0.05)
    path = tmp_path / "starter.key"
    with keys._held(path), pytest.raises(SetupError, match="another process is writing keys"):
        starter_key(path)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"sk-short", b"\xff" * 50, b"a" * 10_000])
def test_a_starter_file_with_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "starter.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match="does not hold a key"):
        starter_key(file)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not a file"):
        starter_key(tmp_path)
    (tmp_path / "plain").write_text("")
    with pytest.raises(SetupError, match="cannot be used"):
        starter_key(tmp_path / "plain" / "starter.key")
