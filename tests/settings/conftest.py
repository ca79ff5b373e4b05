"""A small site on disk, for tests of how it is read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serve.core.errors import SettingsError
from serve.settings.load import load_site
from serve.settings.site import Site

MODEL = """\
name: small
source: {path: models/small}
context_tokens: 4096
sampling: {temperature: 0.6, top_p: 0.9}
engine_args: {max-num-batched-tokens: 2048}
"""

SITE = """\
site: lab
root: ../..
models:
  - use: small
"""


class Sites:
    """Writes `configs/sites/lab.yaml` and model files below a folder, and loads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "configs" / "sites" / "lab.yaml"
        self.file.parent.mkdir(parents=True)
        self.model("small", MODEL)

    def model(self, name: str, text: str) -> Path:
        file = self.folder / "configs" / "models" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def load(self, text: str = SITE, **env: str) -> Site:
        self.file.write_text(text)
        return load_site(self.file, env=env)

    def problems(self, text: str, **env: str) -> list[str]:
        """The lines of the refusal, with the folder taken out of them."""
        with pytest.raises(SettingsError) as refused:
            self.load(text, **env)
        return refused.value.message.replace(f"{self.folder}/configs/", "").splitlines()


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


@pytest.fixture
def problems(sites: Sites) -> Callable[..., list[str]]:
    return sites.problems
