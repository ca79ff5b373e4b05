"""The gateway that real clients are run against."""

from collections.abc import Iterator

import pytest

from tests.conftest import Gateway, start_gateway

SITE = """\
site: clients
root: .
model_files: models
engine_defaults: {kind: fake}
models:
  - {use: fake}
  - {use: vectors}
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A fake model that generates beside one that embeds."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "models").mkdir()
    for name, task in (("fake", "generate"), ("vectors", "embed")):
        (folder / "models" / f"{name}.yaml").write_text(
            f"name: {name}\ntask: {task}\nsource: {{path: none}}\ncontext_tokens: 100000\n"
        )
    (folder / "site.yaml").write_text(SITE)
    running = start_gateway(
        folder / "var", "serve", "--site", str(folder / "site.yaml"), "--starter-key"
    )
    yield running
    assert running.stop() == 0
