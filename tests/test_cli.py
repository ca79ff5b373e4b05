"""The command line: what is wrong is one line, an exit code, and no process left behind."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SITE = """\
site: test
root: .
model_files: models
listen: {{port: {port}}}
auth: {{mode: {auth}}}
engine_defaults: {{kind: {kind}}}
models: [{{use: small}}]
"""
MODEL = """\
name: small
source: {path: weights}
context_tokens: 1000
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.yaml").write_text(MODEL)
    return tmp_path / "site.yaml"


def write(site: Path, port: int = 0, auth: str = "none", kind: str = "fake") -> Path:
    site.write_text(SITE.format(port=port or free_port(), auth=auth, kind=kind))
    return site


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def inhouse(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "serve.cli", *words],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip


def refusal(done: "subprocess.CompletedProcess[str]", code: int = 2) -> str:
    """What it said first, when it ended with this code."""
    assert done.returncode == code, done.stderr
    first, *rest = done.stderr.strip().splitlines()
    # One line a problem, and a site file may have several.
    assert all(line.startswith(first.partition(":")[0]) for line in rest), done.stderr
    return first


def test_a_bad_site_file_names_line_and_key(site: Path) -> None:
    write(site).write_text(site.read_text().replace("listen", "lisen"))
    said = refusal(inhouse("serve", "--site", str(site)))
    assert "site.yaml:4" in said and "lisen" in said and "listen" in said
    assert "site.yaml:4" in refusal(inhouse("check", str(site)))


def test_a_missing_site_file(tmp_path: Path) -> None:
    assert "none.yaml" in refusal(inhouse("serve", "--site", str(tmp_path / "none.yaml")))


def test_missing_weights(site: Path) -> None:
    said = refusal(inhouse("serve", "--site", str(write(site, kind="vllm"))))
    assert "weights" in said and "config.json" in said


def test_altered_weights(site: Path, tmp_path: Path) -> None:
    model = ROOT / "models" / "minilm-l6"
    if not model.is_dir():
        pytest.fail("models/minilm-l6 is missing; run: make models")
    shutil.copytree(model, tmp_path / "weights")
    digest = inhouse("digest", str(tmp_path / "weights")).stdout.strip()
    text = MODEL.replace("weights}", f'weights, digest: "{digest}"}}')
    (tmp_path / "models" / "small.yaml").write_text(text)
    with (tmp_path / "weights" / "model.safetensors").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    done = inhouse("serve", "--site", str(write(site, kind="vllm")))
    said = refusal(done)
    assert "digest mismatch" in said and "model.safetensors" in said


@pytest.mark.parametrize(
    ("name", "content"),
    [("modeling.py", "print()"), ("pytorch_model.bin", "x"), ("model.gguf", "x")],
)
def test_anything_but_data_beside_the_weights(
    site: Path, tmp_path: Path, name: str, content: str
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"")
    (weights / name).write_text(content)
    assert name in refusal(inhouse("serve", "--site", str(write(site, kind="vllm"))))


def test_no_key(site: Path) -> None:
    done = inhouse("serve", "--site", str(write(site, auth="keys")))
    *logged, said = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert "no key yet" in said
    assert f"inhouse keys add NAME --site {site}" in said
    assert all(json.loads(line)["level"] == "info" for line in logged)


def test_a_port_in_use(site: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        done = inhouse("serve", "--site", str(write(site, port=port)))
    said = refusal(done, 3)
    assert str(port) in said and "listen.port" in said


def test_keys_are_made_listed_and_removed(site: Path, tmp_path: Path) -> None:
    write(site, auth="keys")
    made = inhouse("keys", "add", "alice", "--site", str(site))
    key = made.stdout.strip()
    assert key.startswith("sk-")
    assert len(key) >= 43
    stored = b"".join(one.read_bytes() for one in (tmp_path / "var").glob("inhouse.db*"))
    assert key.encode() not in stored
    assert "alice" in inhouse("keys", "list", "--site", str(site)).stdout
    assert "alice" in refusal(inhouse("keys", "add", "alice", "--site", str(site)), 1)
    assert inhouse("keys", "remove", "alice", "--site", str(site)).returncode == 0
    assert "alice" in refusal(inhouse("keys", "remove", "alice", "--site", str(site)), 1)


def test_schema_is_json_schema(site: Path) -> None:
    import jsonschema

    schema = json.loads(inhouse("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "models" in schema["properties"]


@pytest.mark.parametrize("option", [["--auth", "x"], ["--log-level", "x"], ["--port", "0"]])
def test_dev_refuses_what_it_does_not_know(option: list[str], tmp_path: Path) -> None:
    done = inhouse("dev", "--var-dir", str(tmp_path), *option)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
