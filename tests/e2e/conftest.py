"""One gateway over a real vLLM engine on the CPU, for all end-to-end tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.conftest import Gateway, start_gateway

ROOT = Path(__file__).parents[2]
READY_TIMEOUT_S = 400

# Eager: compiling takes a minute or two on a machine without a cache, and changes no answer
# that these tests look at.
SITE = """\
site: e2e
root: {root}
model_files: {root}/configs/models
var_dir: {var_dir}
limits: {{ready_wait_s: 300}}
tool_servers:
  - name: desk
    kind: mcp
    command: [{python}, -m, tests.mcp_server, stdio]
    folder: {root}
models:
  - use: smollm2-135m
    snapshot: 2026-11-01
    aliases: [small]
    cpu_kv_gib: 1
    engine_args: {{enforce-eager: true}}
"""


def write_site(directory: Path, text: str = SITE) -> Path:
    path = directory / "site.yaml"
    path.write_text(text.format(root=ROOT, var_dir=directory, python=sys.executable))
    return path


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway; tests may kill its engine but leave it answering."""
    if not (ROOT / "models" / "smollm2-135m" / "config.json").is_file():
        pytest.fail("models/smollm2-135m is missing; run: make models")
    directory = tmp_path_factory.mktemp("e2e")
    site = write_site(directory)
    gateway = start_gateway(
        directory,
        "serve", "--site", str(site), "--starter-key",
        ready_timeout_s=READY_TIMEOUT_S,
    )  # fmt: skip
    gateway.client.timeout = 300
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(scope="session")
def sdk(real: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{real.url}/v1", api_key=real.key, max_retries=0, timeout=300)
