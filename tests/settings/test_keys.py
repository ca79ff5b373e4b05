import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.core.errors import SettingsError, SetupError
from serve.settings import keys
from serve.settings.keys import (
    KeyFile,
    add_key,
    digest_of,
    load_keys,
    new_key,
    remove_key,
    save_keys,
    starter_key,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "keys.yaml"


def test_keys_are_random_and_in_the_usual_form() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    # 256 bits in base64 are 43 characters.
    assert all(key.startswith("sk-") and len(key) == 46 for key in made)


def test_a_key_is_kept_by_its_digest_only(path: Path) -> None:
    key = add_key(path, "alice")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    assert digest_of(key) in path.read_text()
    kept = load_keys(path)
    assert kept.digests == {digest_of(key): "alice"}
    assert kept.name_of(key) == "alice"
    assert kept.name_of(new_key()) is None


def test_keys_come_and_go(path: Path) -> None:
    assert load_keys(path) == KeyFile()
    first, second = add_key(path, "alice"), add_key(path, "bob@lab-7")
    assert load_keys(path).name_of(second) == "bob@lab-7"
    remove_key(path, "alice")
    kept = load_keys(path)
    assert kept.name_of(first) is None
    assert [entry.name for entry in kept.keys] == ["bob@lab-7"]
    assert kept.keys[0].created.tzinfo is not None
    remove_key(path, "bob@lab-7")
    assert load_keys(path).keys == ()


def test_a_name_is_used_once_and_must_exist(path: Path) -> None:
    add_key(path, "alice")
    with pytest.raises(SettingsError, match="there is a key named alice already"):
        add_key(path, "alice")
    with pytest.raises(SettingsError, match="there is no key named bob; the keys: alice"):
        remove_key(path, "bob")
    for name in ("", "a b", "-a", "a" * 65, "ü", "a\n"):
        with pytest.raises(SettingsError, match="is no name for a key"):
            add_key(path, name)
    assert [entry.name for entry in load_keys(path).keys] == ["alice"]


def test_the_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "KEYS_MAX", 2)
    full = KeyFile().with_key("a", new_key()).with_key("b", new_key())
    with pytest.raises(SettingsError, match="the most a site may have"):
        full.with_key("c", new_key())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_may_use_is_refused_with_the_cure(path: Path, mode: int) -> None:
    add_key(path, "alice")
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"mode {mode:04o}.*; run: chmod 600 {path}"):
        load_keys(path)
    starter = path.with_name("starter.key")
    starter_key(starter)
    starter.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        starter_key(starter)


ENTRY = '{name: a, sha256: "' + "0" * 64 + '", created: 2026-11-01T00:00:00Z}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("keys: [", "not valid YAML"),
        ("keys: 7", "keys: found 7; expected a list"),
        ("kyes: []", 'unknown key "kyes"; nearest known key: "keys"'),
        (f"keys:\n- {ENTRY}\n- {ENTRY}", "keys[1].sha256 is that of an earlier key"),
        ("keys:\n- {name: a, sha256: 1, created: 2}", "keys[0].sha256: found 1; expected 64 hexa"),
        ("keys:\n- {name: a}", "keys[0].created is missing; expected a time"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(path: Path, text: str, said: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingsError) as refused:
        load_keys(path)
    assert said in refused.value.message
    assert refused.value.message.startswith(str(path))


def test_every_cut_of_the_file_is_valid_or_refused(path: Path) -> None:
    add_key(path, "alice")
    add_key(path, "bob")
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        try:
            assert len(load_keys(path).keys) <= 2
        except SettingsError as refused:
            assert str(path) in refused.message


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = add_key(path, "alice")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(SetupError, match="No space left"):
        patched.setattr(os, "fsync", full)
        add_key(path, "bob")
    assert load_keys(path).digests == {digest_of(key): "alice"}
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.yaml"]


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    names = [f"k{n}" for n in range(12)]
    with ThreadPoolExecutor(max_workers=6) as pool:
        made = list(pool.map(lambda name: add_key(path, name), names))
    kept = load_keys(path)
    assert [kept.name_of(key) for key in made] == names


def test_a_held_folder_is_waited_for_only_so_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOCK_WAIT_S", 0.05)
    with keys._held(path), pytest.raises(SetupError, match="another process is writing keys"):
        add_key(path, "alice")
    assert not path.exists()


def test_saving_and_loading_are_inverse(path: Path) -> None:
    made = KeyFile().with_key("a", new_key()).with_key("b", new_key())
    save_keys(path, made)
    assert load_keys(path) == made


def test_the_starter_key_is_the_same_at_every_start(tmp_path: Path) -> None:
    file = tmp_path / "var" / "starter.key"
    key = starter_key(file)
    assert starter_key(file) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == key + "\n"
    file.unlink()
    assert starter_key(file) != key


@pytest.mark.parametrize("content", [b"", b"sk-short", b"\xff" * 50, b"a" * 10_000])
def test_a_starter_file_with_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "starter.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match="does not hold a key"):
        starter_key(file)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not a file"):
        load_keys(tmp_path)
    (tmp_path / "plain").write_text("")
    with pytest.raises(SetupError, match="cannot be used"):
        add_key(tmp_path / "plain" / "keys.yaml", "a")
