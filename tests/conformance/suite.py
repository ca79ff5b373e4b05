"""What the tests of the suites of openai-python and openai-node share."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.applicability import CHANGES, CHECKED, served
from tests.conformance.relay import Relay
from tests.conftest import Gateway, start_gateway

SITE = """\
site: conformance
root: .
model_files: models
auth: {{mode: none}}
engine_defaults: {{kind: fake}}
models:
  - {{use: fake, aliases: [{chat}]}}
  - {{use: vectors, aliases: [text-embedding-3-small]}}
"""
_MODEL = re.compile(r"""model(?:=|: )["']([^"']+)["']""")


class Suite:
    """One checkout: where its tests are, and which of its files are for what is served."""

    def __init__(self, variable: str, folder: str, pattern: str) -> None:
        named = os.environ.get(variable)
        if not named:
            pytest.skip(f"{variable} does not name a checkout")
        self.checkout = Path(named)
        self.folder = self.checkout / folder
        assert self.folder.is_dir(), f"no {folder} in {named}"
        paths = self.folder.rglob(pattern)
        self.files = sorted(str(path.relative_to(self.folder)) for path in paths)
        self.served = [one for one in self.files if served(one)]

    def models(self) -> set[str]:
        """The names that its tests ask for."""
        texts = ((self.folder / one).read_text() for one in self.served)
        return {name for text in texts for name in _MODEL.findall(text)} | {"gpt-4o-mini"}


@contextmanager
def serving(suite: Suite, folder: Path) -> Iterator[Gateway]:
    """A fake engine under every name that the tests ask for."""
    (folder / "models").mkdir()
    for name, task in (("fake", "generate"), ("vectors", "embed")):
        (folder / "models" / f"{name}.yaml").write_text(
            f"name: {name}\ntask: {task}\nsource: {{path: none}}\ncontext_tokens: 8192\n"
        )
    chat = sorted(suite.models() - {"text-embedding-3-small"})
    (folder / "site.yaml").write_text(SITE.format(chat=", ".join(chat)))
    (folder / "starter.key").write_text("none")  # what `start_gateway` waits for
    running = start_gateway(folder, "serve", "--site", str(folder / "site.yaml"))
    yield running
    assert running.stop() == 0


def hold(found: Mapping[str, bool], apart: Iterable[str]) -> None:
    """Every test holds but those that are listed, and each of those does not."""
    known = {one for one in found if any(re.search(pattern, one) for pattern in apart)}
    assert {one for one, holds in found.items() if not holds} == known
    for pattern in apart:
        assert any(re.search(pattern, one) for one in known), pattern


def hold_page(found: Mapping[str, bool], relay: Relay, release: str, *, whole: bool) -> None:
    """The page tells how many hold and what the relay changed, if it is of this release."""
    if release in CHECKED:
        assert (sum(found.values()), len(found)) == CHECKED[release]
        for endpoint, made in relay.changed.items():
            assert made <= set(CHANGES[endpoint]), endpoint
        if whole:
            assert {one: set(made) for one, made in relay.changed.items()} == CHANGES
