"""Servers that several modules here share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Gateway, start_site

SITE = """\
site: t
root: .
model_files: models
auth: {mode: none}
engine_defaults: {kind: fake}
models: [{use: chat}, {use: vectors}]
"""


def chat_and_vectors(context_tokens: int) -> dict[str, str]:
    """The files of two models."""
    return {
        name: f"name: {name}\ntask: {task}\nsource: {{path: none}}\n"
        f"context_tokens: {context_tokens}\n"
        for name, task in (("chat", "generate"), ("vectors", "embed"))
    }


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A model that generates beside one that embeds."""
    folder = tmp_path_factory.mktemp("any")
    running = start_site(folder, SITE, chat_and_vectors(4000))
    yield running
    assert running.stop() == 0
    assert_no_failure(folder)


def assert_no_failure(folder: Path) -> None:
    """Nothing in the log that is ours to be ashamed of."""
    lines = (folder / "stderr.txt").read_text().splitlines()
    assert [line for line in lines if "Traceback" in line or "a request failed" in line] == []
