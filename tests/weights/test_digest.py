"""Model directories: what is refused, and what a digest catches."""

import subprocess
from pathlib import Path

import pytest

from serve.core.errors import SettingsError
from serve.weights.digest import combined, digests_of, inspect, verify, write_manifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 5000)
    (folder / "sub" / "extra.json").write_text("[]")
    return folder


def test_the_digest_is_what_sha256sum_says(model: Path) -> None:
    names = "config.json model.safetensors sub/extra.json"
    line = f"sha256sum {names} | sha256sum | cut -d' ' -f1"
    said = subprocess.run(
        ["bash", "-c", line], cwd=model, capture_output=True, text=True, check=True
    )
    assert combined(digests_of(model)) == f"sha256:{said.stdout.strip()}"


def test_a_manifest_does_not_change_the_digest(model: Path) -> None:
    digest = write_manifest(model)
    assert write_manifest(model) == digest
    verify(model, digest)


def test_progress_counts_every_byte(model: Path) -> None:
    counted: list[int] = []
    digests_of(model, counted.append)
    assert sum(counted) == sum(p.stat().st_size for p in model.rglob("*") if p.is_file())


@pytest.mark.parametrize("change", ["flip", "truncate", "add", "remove", "rename"])
def test_any_change_is_found_and_named(model: Path, change: str) -> None:
    digest = write_manifest(model)
    weights = model / "model.safetensors"
    named = "model.safetensors"
    match change:
        case "flip":
            data = bytearray(weights.read_bytes())
            data[77] ^= 1
            weights.write_bytes(data)
        case "truncate":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "add":
            named = "new.json"
            (model / named).write_text("{}")
        case "remove":
            named = "sub/extra.json"
            (model / named).unlink()
        case "rename":
            weights.rename(model / "other.safetensors")
    with pytest.raises(SettingsError, match="digest mismatch") as caught:
        verify(model, digest)
    assert named in caught.value.message


def test_a_whole_model_passes(model: Path) -> None:
    inspect(model)


@pytest.mark.parametrize(
    "name", ["modeling_x.py", "pytorch_model.bin", "a.pt", "a.pth", "a.pkl", "a.gguf", "a.so"]
)
def test_code_and_pickles_are_refused_by_name(model: Path, name: str) -> None:
    (model / "sub" / name).write_bytes(b"x")
    with pytest.raises(SettingsError, match=name):
        inspect(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(model: Path, name: str) -> None:
    (model / name).write_text('{"auto_map": {"AutoModel": "x.Y"}}')
    with pytest.raises(SettingsError, match="auto_map"):
        inspect(model)


def test_links_out_of_the_directory_are_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (model / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(SettingsError, match=r"link\.json"):
        inspect(model)


def test_broken_json_and_missing_weights(model: Path, tmp_path: Path) -> None:
    (model / "config.json").write_text("{")
    with pytest.raises(SettingsError, match="not valid JSON"):
        inspect(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(SettingsError, match="safetensors"):
        inspect(model)
    with pytest.raises(SettingsError, match=r"config\.json is missing"):
        inspect(tmp_path / "absent")
