"""Libraries that programs are written with: every check of their scripts holds."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.environment import client_of
from tests.conftest import Gateway

SCRIPTS = Path(__file__).parent / "scripts"

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("name", "script", "checks"),
    [
        ("langchain", "with_langchain.py", 13),
        ("pydantic-ai", "with_pydantic_ai.py", 15),
        ("instructor", "with_instructor.py", 7),
        ("litellm", "with_litellm.py", 12),
        ("aisdk", "with_aisdk.mjs", 25),
    ],
)
def test_a_library(
    name: str,
    script: str,
    checks: int,
    site: Gateway,
    tmp_path: Path,
) -> None:
    found = client_of(name)
    program = str(found.folder / "bin" / "python")
    if script.endswith(".mjs"):
        program = shutil.which("node") or pytest.skip("node is not installed here")
    # LiteLLM looks for prices on the network unless it is told that it has its own.
    env = found.env(site, tmp_path) | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [program, str(SCRIPTS / script)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    errors = [f"{one['check']}: {one['error']}" for one in told[:-1] if one["error"] is not None]
    assert not errors, "\n\n".join(errors)
    assert told[-1] == {"done": True}
    assert len(told) - 1 == checks
