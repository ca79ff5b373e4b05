"""The documents show what the commands really print: each is run, and compared line by line."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Gateway, Inhouse, start_gateway
from tests.peft import write_adapter

HOME = "/srv/example"
"""Where the document says that its files lie."""
ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = ("admin", "audit", "portfolio", "release", "state")
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`(\S+\.\w+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """One command of the document, and what it is shown to print."""

    command: str
    output: str


def steps(text: str) -> list[Step]:
    """All of a document's, in order: they are one session at one server."""
    found = []
    for block in BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append(Step(command, output))
    return found


def comparable(text: str) -> list[str]:
    """Figures and the widths of columns differ from run to run, the rest must not."""
    text = re.sub(
        r"sha256:[0-9a-f]+|\b[0-9a-f]{12}\b|\b(ord_|inhouse-audit-)[0-9a-f]{16}", "#", text
    )
    text = re.sub(r"\d+(\.\d+)?", "#", text)
    return [re.sub(r" {2,}", "  ", line.strip()) for line in text.strip().splitlines()]


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> str:
    return (ROOT / "docs" / f"{request.param}.md").read_text()


@pytest.fixture
def session(document: str, tmp_path: Path) -> Iterator[Gateway]:
    """A server of the document's own site, in the folder where its files lie."""
    for name, text in FILE.findall(document):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    site = str(tmp_path / "site.yaml")
    running = start_gateway(tmp_path, "serve", "--site", site, "--starter-key")
    # What docs/admin.md says has been put there since the start.
    write_adapter(tmp_path / "adapters" / "law-2026-11-21", {"any.thing": (3, 5)})
    write_adapter(tmp_path / "adapters" / "wide", {"any.thing": (3, 5)}, rank=64)
    yield running
    assert running.stop() == 0


def test_every_command_prints_what_is_shown(
    document: str, session: Gateway, monkeypatch: pytest.MonkeyPatch, inhouse: Inhouse
) -> None:
    monkeypatch.chdir(session.var_dir)
    wrong = []
    for step in steps(document):
        program, *words = shlex.split(step.command)
        assert program == "inhouse"
        done = inhouse(*words)
        printed = (done.out + done.err).replace(str(session.var_dir), HOME)
        if comparable(printed) != comparable(step.output):
            wrong.append(f"$ {step.command}\n{printed}")
    assert not wrong, "the document differs from:\n" + "\n".join(wrong)


def test_every_order_is_shown() -> None:
    shown = steps((ROOT / "docs" / "admin.md").read_text())
    assert {step.command.split()[1] for step in shown} >= {
        "status", "load", "sleep", "drain", "restart", "adapters", "plan", "apply",
    }  # fmt: skip
