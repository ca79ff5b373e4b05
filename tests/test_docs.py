"""What the documents say of the tree is so."""

import re
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
