"""A chat model and an embedding model on memory that is said to be enough for one of them.

By estimate it is; once both have been measured, they are found to fit side by side.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Gateway, start_gateway
from tests.e2e.conftest import READY_TIMEOUT_S, ROOT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SITE = """\
site: on-demand
root: {root}
model_files: {root}/configs/models
var_dir: {var_dir}
memory: {{host_gib: 4}}
limits: {{ready_wait_s: 300}}
models:
  - use: smollm2-135m
    cpu_kv_gib: 1
    engine_args: {{enforce-eager: true}}
  - use: minilm-l6
    load: on_demand
    cpu_kv_gib: 1
"""
CHAT, EMBED = "smollm2-135m", "minilm-l6"
GIB = 2**30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("pair")
    site = folder / "site.yaml"
    site.write_text(SITE.format(root=ROOT, var_dir=folder))
    gateway = start_gateway(
        folder, "serve", "--site", str(site), "--starter-key", ready_timeout_s=READY_TIMEOUT_S
    )
    gateway.client.timeout = 300
    yield gateway
    assert gateway.stop() == 0


def states(gateway: Gateway) -> dict[str, str]:
    models = gateway.client.get("/health/ready").json()["models"]
    return {name: about["state"] for name, about in models.items()}


def records(gateway: Gateway) -> list[dict[str, Any]]:
    try:
        return list(
            json.loads((gateway.var_dir / "cache/memory.json").read_bytes())["engines"].values()
        )
    except FileNotFoundError:
        return []


def wait_measured(gateway: Gateway, count: int) -> None:
    deadline_s = time.monotonic() + 20
    while len(records(gateway)) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def load(gateway: Gateway, model: str) -> None:
    transport = httpx.HTTPTransport(uds=str(gateway.var_dir / "run" / "admin.sock"))
    with httpx.Client(transport=transport, base_url="http://admin", timeout=300) as admin:
        answer = admin.post(f"/admin/v1/models/{model}/load", json={"wait_s": 280})
    assert answer.status_code == 200, answer.text


def test_models_swap_by_estimate_and_sit_side_by_side_once_measured(pair: Gateway) -> None:
    assert states(pair) == {CHAT: "ready", EMBED: "stopped"}
    wait_measured(pair, 1)
    load(pair, EMBED)
    assert states(pair) == {CHAT: "stopped", EMBED: "ready"}
    wait_measured(pair, 2)

    body = {"model": CHAT, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    with pair.client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.status_code == 200
    assert lines[0].startswith(f": loading {CHAT}, 3 s of about "), "a load takes longer than that"
    assert lines[-1] == "data: [DONE]"
    assert states(pair) == {CHAT: "ready", EMBED: "ready"}

    embed, chat = sorted(one["awake"]["host"] for one in records(pair))
    assert 1 * GIB < chat < 3 * GIB
    assert 0.3 * GIB < embed < 2 * GIB
