"""What the documents say of the tree is so."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from serve.metering.metrics import Metrics

ROOT = Path(__file__).parent.parent


def test_every_package_of_the_architecture_exists_and_none_is_left_out() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`(serve(?:\.\w+)+)`", text))
    missing = {name for name in named if find_spec(name) is None}
    assert not missing
    tops = {
        f"serve.{path.stem}"
        for path in (ROOT / "serve").iterdir()
        if (path.is_dir() and (path / "__init__.py").exists())
        or (path.suffix == ".py" and path.stem != "__init__")
    }
    assert tops <= named


def test_every_series_is_documented() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    documented = {name.removesuffix("_total") for name in re.findall(r"^\| `(\w+)`", text, re.M)}
    exported = {family.name for family in Metrics("1").registry.collect()}
    assert documented == exported


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_point_at_files(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / target).exists(), target


DOCUMENTS = ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
SHELL_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of the shell blocks of the documents, comments and indentation taken off."""
    found = []
    for document in DOCUMENTS:
        for block in SHELL_BLOCK.findall((ROOT / document).read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.split("  #")[0].strip()
                if command and not command.startswith("#"):
                    found.append(command)
    return found


# Long-running or needing what only an operator has: shown to parse instead of being run.
ONLY_PARSED = {
    "inhouse serve": "tests/e2e runs it on a real engine",
    "inhouse dev": "tests/http runs it",
}


@pytest.fixture(scope="module")
def copied_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place like the repository where commands may write."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(ROOT / "configs", root / "configs")
    for name in ("serve", "requirements", "models", "Makefile", "benchmarks"):
        (root / name).symlink_to(ROOT / name)
    return root


@pytest.mark.parametrize("command", commands())
def test_every_command_in_the_documents_runs(command: str, copied_root: Path) -> None:
    words = shlex.split(command)
    while "=" in words[0]:
        words.pop(0)
    program = Path(words[0]).name
    if program == "make":
        run(["make", "--dry-run", *words[1:]], ROOT)
    elif program == "inhouse" and " ".join(["inhouse", words[1]]) in ONLY_PARSED:
        run([sys.executable, "-m", "serve.cli", words[1], "--help"], copied_root)
    elif program == "inhouse":
        target = words[-1] if words[1] == "digest" else ""
        if target and not (ROOT / target).exists():
            pytest.skip(f"{target} is the operator's")
        run([sys.executable, "-m", "serve.cli", *words[1:]], copied_root)
    elif program == "python":
        module = words[words.index("-m") + 1]
        assert find_spec(module) is not None
    elif program == "pip":
        for path in (w for w in words if w.startswith("requirements/")):
            assert (ROOT / path).is_file()
    else:
        pytest.fail(f"no test runs {command!r}")


def run(words: list[str], cwd: Path) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
