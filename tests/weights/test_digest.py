"""Model directories: what is refused, and what a digest catches."""

import os
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest

from serve.core.errors import SettingsError
from serve.weights.digest import MANIFEST, digest_of, inspect, verify, write_manifest


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[77] ^= 1
    path.write_bytes(content)


def test_digest_is_what_sha256sum_says(model_dir: Path) -> None:
    names = ["1_Pooling/config.json", "config.json", "model.safetensors"]
    sums = subprocess.run(
        ["sha256sum", *names], cwd=model_dir, capture_output=True, check=True
    ).stdout
    whole = subprocess.run(["sha256sum"], input=sums, capture_output=True, check=True).stdout
    assert digest_of(model_dir) == f"sha256:{whole.split()[0].decode()}"


def test_digest_ignores_place_order_times_and_what_download_tools_leave(
    model_dir: Path, tmp_path: Path
) -> None:
    digest = write_manifest(model_dir)
    assert write_manifest(model_dir) == digest
    copy = tmp_path / "copy"
    shutil.copytree(model_dir, copy)
    (copy / "config.json").touch()
    (copy / ".cache" / "huggingface").mkdir(parents=True)
    (copy / ".cache" / "huggingface" / "config.json.metadata").write_text("a time")
    verify(copy, digest)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: flip_a_bit(d / "model.safetensors"), "model.safetensors"),
        (lambda d: os.truncate(d / "model.safetensors", 6999), "model.safetensors"),
        (lambda d: (d / "config.json").unlink(), "config.json"),
        (lambda d: (d / "added.json").write_text("{}"), "added.json"),
        (lambda d: (d / "1_Pooling" / "config.json").rename(d / "moved.json"), "moved.json"),
        # Below the top, the manifest's name is a name like any other.
        (lambda d: (d / "1_Pooling" / MANIFEST).write_text("{}"), f"1_Pooling/{MANIFEST}"),
    ],
    ids=["flipped", "truncated", "removed", "added", "renamed", "second manifest"],
)
def test_verify_names_what_differs(model_dir: Path, change, named: str) -> None:
    digest = write_manifest(model_dir)
    change(model_dir)
    with pytest.raises(SettingsError, match="digest mismatch") as caught:
        verify(model_dir, digest)
    assert f"missing or added: {named}" in caught.value.message or f", {named}" in str(caught.value)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": 3}', '{"files": {"a": "0"}}'])
def test_a_manifest_that_cannot_be_trusted_is_not_quoted(model_dir: Path, manifest: str) -> None:
    digest = digest_of(model_dir)
    (model_dir / MANIFEST).write_text(manifest)
    verify(model_dir, digest)
    (model_dir / "config.json").write_text('{"a": 1}')
    with pytest.raises(SettingsError, match="digest mismatch") as caught:
        verify(model_dir, digest)
    assert "changed, missing or added" not in caught.value.message


def test_progress_counts_every_byte(model_dir: Path) -> None:
    counted: list[int] = []
    digest_of(model_dir, counted.append)
    assert sum(counted) == sum(p.stat().st_size for p in model_dir.rglob("*") if p.is_file())


def refusal(model_dir: Path) -> str:
    try:
        inspect(model_dir)
    except SettingsError as error:
        return error.message
    return ""


def test_a_plain_model_passes(model_dir: Path) -> None:
    assert refusal(model_dir) == ""
    (model_dir / "link.safetensors").symlink_to("model.safetensors")
    assert refusal(model_dir) == ""


@pytest.mark.parametrize(
    "name",
    ["modeling_x.py", "1_Pooling/x.SO", "pytorch_model.bin", "a.pt", "a.PTH", "a.pkl", "a.gguf"],
)
def test_code_and_pickles_are_refused(model_dir: Path, name: str) -> None:
    (model_dir / name).write_bytes(b"x")
    with pytest.raises(SettingsError, match=name):
        inspect(model_dir)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("config.json", {"model_type": "llama", "auto_map": {"AutoModel": "x.Y"}}),
        ("config.json", {"vision_config": {"auto_map": {"AutoConfig": "elsewhere--x.Y"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.Y", None]}}),
        ("preprocessor_config.json", [{"auto_map": {}}]),
    ],
)
def test_remote_code_is_refused(model_dir: Path, name: str, body: object) -> None:
    (model_dir / name).write_bytes(orjson.dumps(body))
    with pytest.raises(SettingsError, match="auto_map"):
        inspect(model_dir)


def test_links_that_leave_or_lead_nowhere_are_refused(model_dir: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    link = model_dir / "generation_config.json"
    link.symlink_to(outside)
    with pytest.raises(SettingsError, match="leaves the model's directory"):
        inspect(model_dir)
    link.unlink()
    link.symlink_to("nothing.json")
    with pytest.raises(SettingsError, match="link to nothing"):
        inspect(model_dir)


def test_what_is_neither_file_nor_folder_is_refused(model_dir: Path) -> None:
    os.mkfifo(model_dir / "pipe")
    with pytest.raises(SettingsError, match="pipe: neither"):
        inspect(model_dir)


def test_a_model_that_is_not_whole_is_refused(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config\.json is missing"):
        inspect(tmp_path / "absent")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (model_dir / "model.safetensors.index.json").write_bytes(orjson.dumps(index))
    with pytest.raises(SettingsError, match=r"model-2\.safetensors is missing \(1 of 2"):
        inspect(model_dir)
    (model_dir / "model.safetensors").unlink()
    with pytest.raises(SettingsError, match=r"no \*\.safetensors"):
        inspect(model_dir)


def test_broken_json_is_named(model_dir: Path) -> None:
    (model_dir / "config.json").write_bytes(b"{\xff")
    with pytest.raises(SettingsError, match=r"config\.json: not valid JSON"):
        inspect(model_dir)
