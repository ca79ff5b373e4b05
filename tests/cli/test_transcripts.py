"""docs/admin.md shows what the commands really print: each is run, and compared line by line."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Gateway, Inhouse, start_gateway

HOME = "/srv/example"
"""Where the document says that its files lie."""
ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "admin.md"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`(\S+\.yaml)`:\n\n```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """One command of the document, and what it is shown to print."""

    command: str
    output: str


def steps() -> list[Step]:
    """All of them, in order: they are one session at one server."""
    found = []
    for block in BLOCK.findall(DOCUMENT.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append(Step(command, output))
    return found


def comparable(text: str) -> list[str]:
    """Figures and the widths of columns differ from run to run, the rest must not."""
    text = re.sub(r"sha256:[0-9a-f]+", "sha256:#", text)
    text = re.sub(r"\d+(\.\d+)?", "#", text)
    return [re.sub(r" {2,}", "  ", line.strip()) for line in text.strip().splitlines()]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server of the document's own site, in the folder where its files lie."""
    root = tmp_path_factory.mktemp("transcript")
    for name, text in FILE.findall(DOCUMENT.read_text()):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    running = start_gateway(root, "serve", "--site", str(root / "site.yaml"), "--starter-key")
    yield running
    assert running.stop() == 0


def test_every_command_prints_what_is_shown(
    session: Gateway, monkeypatch: pytest.MonkeyPatch, inhouse: Inhouse
) -> None:
    shown = steps()
    assert {step.command.split()[1] for step in shown} >= {
        "status", "load", "sleep", "drain", "restart", "plan", "apply",
    }  # fmt: skip
    monkeypatch.chdir(session.var_dir)
    wrong = []
    for step in shown:
        program, *words = shlex.split(step.command)
        assert program == "inhouse"
        done = inhouse(*words)
        printed = (done.out + done.err).replace(str(session.var_dir), HOME)
        if comparable(printed) != comparable(step.output):
            wrong.append(f"$ {step.command}\n{printed}")
    assert not wrong, "docs/admin.md differs from:\n" + "\n".join(wrong)
