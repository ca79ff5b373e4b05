"""LoRA adapters on a real engine: they answer, the base stays itself, a new process learns them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Gateway, start_gateway
from tests.e2e.conftest import READY_TIMEOUT_S, ROOT
from tests.peft import write_adapter

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SITE = """\
site: adapters
root: {root}
model_files: {root}/configs/models
var_dir: {var_dir}
limits: {{ready_wait_s: 300}}
models:
  - use: smollm2-135m
    cpu_kv_gib: 1
    context_tokens: 1024
    engine_args: {{enforce-eager: true}}
    adapter_slots: 2
    adapter_rank_max: 8
    adapters: [{{name: loud, path: {var_dir}/loud, snapshot: 2026-11-05}}]
    adapter_dir: {var_dir}/more
"""
MODULES = {
    f"layers.{layer}.self_attn.{name}": (given, 576)
    for layer in range(30)
    for name, given in (("q_proj", 576), ("v_proj", 192))
}
LOUD = "smollm2-135m:loud-2026-11-05"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("adapters")
    said = {"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    write_adapter(folder / "loud", MODULES, **said)
    write_adapter(folder / "more" / "faint", MODULES, scale=1e-6, **said)
    write_adapter(folder / "more" / "other", MODULES, scale=2.0, **said)
    write_adapter(folder / "more" / "wide", MODULES, rank=16)
    site = folder / "site.yaml"
    site.write_text(SITE.format(root=ROOT, var_dir=folder))
    gateway = start_gateway(
        folder, "serve", "--site", str(site), "--starter-key", ready_timeout_s=READY_TIMEOUT_S
    )
    gateway.client.timeout = 300
    yield gateway
    assert gateway.stop() == 0


def say(gateway: Gateway, model: str) -> str:
    body = {
        "model": model, "temperature": 0, "max_tokens": 8,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }  # fmt: skip
    answer = gateway.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] in (model, LOUD)
    return str(answer.json()["choices"][0]["message"]["content"])


def test_adapters_answer_and_the_base_stays_itself(adapted: Gateway) -> None:
    before = say(adapted, "smollm2-135m")
    assert "Paris" in before
    loud = say(adapted, "smollm2-135m:loud")
    assert loud != before
    # Another adapter: so weak that only the base is heard.
    assert say(adapted, "smollm2-135m:faint") == before
    assert say(adapted, "smollm2-135m") == before
    # One more than the engine has slots for: it makes room, and reads the first one again.
    assert say(adapted, "smollm2-135m:other") not in (before, loud)
    assert say(adapted, LOUD) == loud


def test_one_that_does_not_fit_is_not_served(adapted: Gateway) -> None:
    refused = adapted.client.post(
        "/v1/chat/completions",
        json={"model": "smollm2-135m:wide", "messages": [{"role": "user", "content": "hi"}]},
    )
    assert refused.status_code == 404
    log = (adapted.var_dir / "stderr.txt").read_text()
    assert "rank 16 is above adapter_rank_max 8" in log


def test_a_killed_engine_learns_its_adapters_again(adapted: Gateway) -> None:
    before, loud = say(adapted, "smollm2-135m"), say(adapted, LOUD)
    (engine,) = adapted.engine_pids()
    os.kill(engine, signal.SIGKILL)
    assert say(adapted, LOUD) == loud
    assert adapted.engine_pids() != [engine]
    assert say(adapted, "smollm2-135m:faint") == say(adapted, "smollm2-135m") == before


def test_a_listed_adapter_for_another_model_stops_the_start(tmp_path: Path) -> None:
    deeper = {"layers.30.self_attn.q_proj": (576, 576)}
    write_adapter(tmp_path / "loud", deeper)
    site = tmp_path / "site.yaml"
    site.write_text(SITE.format(root=ROOT, var_dir=tmp_path))
    with pytest.raises(AssertionError, match=r"layers\.30.*which smollm2-135m does not have"):
        start_gateway(tmp_path, "serve", "--site", str(site), "--starter-key")
