"""openai-node's own tests of its resources, run against the server.

They are not part of this repository: OPENAI_NODE_TESTS names a checkout of openai-node.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.environment import client_of
from tests.conformance.applicability import APART_NODE
from tests.conformance.relay import relaying
from tests.conformance.suite import Suite, hold, hold_page, serving

pytestmark = pytest.mark.long

# The checkout is only read: the SDK is its own source, and caches are elsewhere.
CONFIG = """\
const root = %(root)s;
export default {
  root,
  cacheDir: %(cache)s,
  resolve: {
    alias: [
      { find: /^openai$/, replacement: `${root}/src/index.ts` },
      { find: /^openai\\/(.*)$/, replacement: `${root}/src/$1` },
    ],
  },
  test: {
    globals: true,
    include: %(files)s,
    setupFiles: [`${root}/scripts/jest-setup.ts`],
    reporters: ['json'],
    outputFile: %(report)s,
    pool: 'threads',
    maxWorkers: 1,
  },
};
"""


def test_the_suite(tmp_path: Path) -> None:
    suite = Suite("OPENAI_NODE_TESTS", "tests/api-resources", "*.test.ts")
    runner = client_of("vitest").folder / "node_modules" / "vitest" / "vitest.mjs"
    node = shutil.which("node") or pytest.skip("node is not installed here")
    report, config = tmp_path / "report.json", tmp_path / "vitest.config.mjs"
    values = {
        "root": str(suite.checkout),
        "cache": str(tmp_path / "cache"),
        "files": [f"tests/api-resources/{one}" for one in suite.served],
        "report": str(report),
    }
    config.write_text(CONFIG % {name: json.dumps(value) for name, value in values.items()})
    with serving(suite, tmp_path) as site, relaying(site.url, "none") as (relay, url):
        done = subprocess.run(
            [node, str(runner), "run", "--config", str(config)],
            cwd=suite.checkout,
            env=os.environ | {"TEST_API_BASE_URL": url},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert report.is_file(), done.stderr
    found = {
        f"{Path(file['name']).relative_to(suite.folder)}::{one['fullName']}": one["status"]
        == "passed"
        for file in json.loads(report.read_text())["testResults"]
        for one in file["assertionResults"]
    }
    assert len(found) > 50
    hold(found, APART_NODE)
    version = json.loads((suite.checkout / "package.json").read_text())["version"]
    hold_page(found, relay, f"openai-node {version}", whole=False)
