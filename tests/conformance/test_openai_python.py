"""openai-python's own tests of its resources, run against the server.

They are not part of this repository: OPENAI_PYTHON_TESTS names a checkout of openai-python.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conformance.applicability import APART_PYTHON, NOT_SERVED, path_of
from tests.conformance.relay import relaying
from tests.conformance.suite import Suite, hold, hold_page, serving

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def suite() -> Suite:
    return Suite("OPENAI_PYTHON_TESTS", "tests/api_resources", "test_*.py")


def outcomes(suite: Suite, url: str, report: Path) -> dict[str, bool]:
    """Run the tests of what is served: whether each holds, by its name."""
    root = str(suite.checkout)
    words = [
        *("-m", "pytest", "-q", "-c", os.devnull, "--rootdir", root),
        *("-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--import-mode=prepend"),
        *("-o", "asyncio_default_fixture_loop_scope=session", "-W", "ignore", "--tb=no"),
        # The third client that the suite has is of a library that is not installed here.
        *("-k", "not aiohttp", f"--junitxml={report}", "-o", "junit_family=xunit2"),
    ]
    env = {
        "TEST_API_BASE_URL": url,
        "PYTHONPATH": os.pathsep.join([f"{root}/src", root]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run(
        [sys.executable, *words, *(str(suite.folder / one) for one in suite.served)],
        cwd=root,
        env=os.environ | env,
        capture_output=True,
        timeout=300,
        check=False,
    )
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        module, _, kind = case.attrib["classname"].rpartition(".")
        path = module.removeprefix("tests.api_resources.").replace(".", "/")
        failed = any(child.tag in ("failure", "error") for child in case)
        found[f"{path}.py::{kind}::{case.attrib['name']}"] = not failed
    return found


def test_the_suite(suite: Suite, tmp_path: Path) -> None:
    with serving(suite, tmp_path) as site, relaying(site.url, "none") as (relay, url):
        found = outcomes(suite, url, tmp_path / "report.xml")
    assert len(found) > 500
    hold(found, APART_PYTHON)
    version = (suite.checkout / "src" / "openai" / "_version.py").read_text()
    (number,) = re.findall(r'__version__ = "([^"]+)"', version)
    hold_page(found, relay, f"openai-python {number}", whole=True)


def test_every_reason_is_of_something(suite: Suite) -> None:
    names = {path_of(one) for one in suite.files}
    for one in NOT_SERVED:
        assert any(name == one or name.startswith(f"{one}/") for name in names), one
    assert len(suite.served) >= 14
