"""What the documents say of the tree is so."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from serve.metering.metrics import Metrics
from serve.settings.load import load_site

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


ALL = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
ALL += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)")


@pytest.mark.parametrize("document", ALL)
def test_links_point_at_files_and_headings(document: str) -> None:
    path = ROOT / document
    for file, heading in LINK.findall(path.read_text()):
        target = path.parent / file if file else path
        assert target.exists(), file
        assert not heading or heading in anchors(target.read_text()), f"{file}#{heading}"


def anchors(text: str) -> set[str]:
    """What a page's headings are linked by."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}


def test_the_readme_lists_every_document() -> None:
    linked = {file for file, _ in LINK.findall((ROOT / "README.md").read_text())}
    assert {one for one in ALL if one.startswith("docs/")} <= linked


def test_the_readme_shows_what_the_documents_do() -> None:
    """docs/admin.md is one session that is run; the README shows parts of it."""
    shown = (ROOT / "docs" / "admin.md").read_text().splitlines()
    blocks = re.findall(
        r"^```console\n(\$ inhouse .*?)^```", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert blocks
    for line in "".join(blocks).splitlines():
        assert line in shown


def test_the_clients_are_of_the_locked_versions() -> None:
    locks = ROOT / "tests" / "clients" / "locks"
    pinned = {}
    for path in (*locks.glob("*.in"), ROOT / "benchmarks" / "peers" / "litellm.in"):
        pinned |= dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)", path.read_text(), re.MULTILINE))
    for client in ("aisdk", "codex", "claude"):
        held = json.loads((locks / client / "package-lock.json").read_text())["packages"]
        assert not any("resolved" in package for package in held.values())
        asked = json.loads((locks / client / "package.json").read_text())["dependencies"]
        assert asked == {name: held[f"node_modules/{name}"]["version"] for name in asked}
        pinned |= asked
    del pinned["zod"]  # what the schemas of the AI SDK's script are written in
    text = (ROOT / "docs" / "clients.md").read_text()
    told: dict[str, str] = {}
    for names, versions in re.findall(r"^\| ([^|]+) \| ([\d., ]+) \|", text, re.MULTILINE):
        told |= zip(re.findall(r"`([^`]+)`", names), versions.split(", "), strict=True)
    assert told == pinned


YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED_IN_EXAMPLES = ("large", "medium", "small", "daily", "coder", "judge", "smollm2-135m")


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(block, id=f"{page}-{number}")
        for page in ("models", "portfolio", "tools")
        for number, block in enumerate(
            YAML_BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text())
        )
    ],
)
def test_an_example_of_a_site_is_one(example: str, tmp_path: Path) -> None:
    """What an example leaves out is added, nothing is changed."""
    if example.startswith("name: "):
        (tmp_path / "example.yaml").write_text(example)
        example = "models: [{use: example}]\n"
    for name in NAMED_IN_EXAMPLES:
        model = f"name: {name}\nsource: {{path: none}}\ncontext_tokens: 64\nadapter_dir: more\n"
        (tmp_path / f"{name}.yaml").write_text(model)
    uses = ", ".join(f"{{use: {name}}}" for name in NAMED_IN_EXAMPLES)
    rest = {"site": "site: t\n", "model_files": "model_files: .\n", "models": f"models: [{uses}]\n"}
    given = set(re.findall(r"^(\w+):", example, re.MULTILINE))
    text = "".join(line for key, line in rest.items() if key not in given)
    text += re.sub(r"^model_files:.*$", "model_files: .", example, flags=re.MULTILINE)
    text = text.replace("sha256:…", f"sha256:{'0' * 64}")
    (tmp_path / "site.yaml").write_text(text)
    assert load_site(tmp_path / "site.yaml", env={}).models


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
    "inhouse bench": "tests/benchmarks/test_page.py runs each against a stub",
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
