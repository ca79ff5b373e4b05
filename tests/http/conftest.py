"""Servers that several modules here share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Gateway, start_gateway

SITE = """\
site: t
root: .
model_files: models
auth: {mode: none}
engine_defaults: {kind: fake}
models: [{use: chat}, {use: vectors}]
"""


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A model that generates beside one that embeds."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "models").mkdir()
    for name, task in (("chat", "generate"), ("vectors", "embed")):
        (folder / "models" / f"{name}.yaml").write_text(
            f"name: {name}\ntask: {task}\nsource: {{path: none}}\ncontext_tokens: 4000\n"
        )
    (folder / "starter.key").write_text("none")  # what `start_gateway` waits for
    site = folder / "site.yaml"
    site.write_text(SITE)
    running = start_gateway(folder, "serve", "--site", str(site))
    yield running
    assert running.stop() == 0
    assert_no_failure(folder)


def assert_no_failure(folder: Path) -> None:
    """Nothing in the log that is ours to be ashamed of."""
    lines = (folder / "stderr.txt").read_text().splitlines()
    assert [line for line in lines if "Traceback" in line or "a request failed" in line] == []
