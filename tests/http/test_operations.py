"""Health, metrics, drain and the engine's death, over the fake engine."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Gateway, start_gateway

CHAT = "/v1/chat/completions"


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}]} | fields


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """A gateway of this test's own, to be broken."""
    gateway = start_gateway(
        tmp_path, "dev", "--ttft-ms", "0", "--tpot-ms", "20", "--var-dir", str(tmp_path)
    )
    yield gateway
    gateway.stop()


def test_overload_is_refused_with_a_time_to_come_back(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        "site: t\nroot: .\nmodel_files: models\nauth: {mode: none}\n"
        "engine_defaults: {kind: fake}\nlimits: {queue_requests: 1}\n"
        "models: [{use: fake}, {use: embedder}]\n"
    )
    (tmp_path / "models").mkdir()
    for name, task in (("fake", "generate"), ("embedder", "embed")):
        (tmp_path / "models" / f"{name}.yaml").write_text(
            f"name: {name}\ntask: {task}\nsource: {{path: none}}\ncontext_tokens: 1000\n"
        )
    gateway = start_gateway(tmp_path, "serve", "--site", str(site))
    try:
        with gateway.client.stream("POST", CHAT, json=body("fake:hang@1", stream=True)) as answer:
            pieces = answer.iter_raw()
            assert next(pieces)
            refused = gateway.client.post(CHAT, json=body("hi"))
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-should-retry"] == "true"
        wrong = gateway.client.post(CHAT, json=body("hi", model="embedder"))
        assert wrong.status_code == 400
        assert "embeddings" in wrong.json()["error"]["message"]
        assert 'outcome="overloaded"' in gateway.client.get("/metrics").text
    finally:
        assert gateway.stop() == 0


def test_health_needs_no_key(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.url}/health/live").json() == {"status": "live"}
    ready = httpx.get(f"{gateway.url}/health/ready").json()
    assert ready["status"] == "ready"
    assert ready["models"]["fake"]["state"] == "ready"


def test_metrics_are_one_valid_page(gateway: Gateway) -> None:
    gateway.client.post(CHAT, json=body("hi"))
    page = gateway.client.get("/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(page)}
    for name in (
        "inhouse_requests", "inhouse_request_ttft_seconds", "inhouse_request_tpot_seconds",
        "inhouse_request_e2e_seconds", "inhouse_request_queue_seconds", "inhouse_tokens",
        "inhouse_requests_in_flight", "inhouse_engine_state", "inhouse_engine_restarts",
        "vllm:num_requests_running",
    ):  # fmt: skip
        assert name in families
    states = {s.labels["state"]: s.value for s in families["inhouse_engine_state"].samples}
    assert states == {"stopped": 0, "starting": 0, "ready": 1, "sleeping": 0, "failed": 0}
    assert families["vllm:num_requests_running"].samples[0].labels["model"] == "fake"


def test_a_killed_engine_is_replaced_and_the_gateway_lives(own: Gateway) -> None:
    (engine,) = own.engine_pids()
    os.kill(engine, signal.SIGKILL)
    answer = own.client.post(CHAT, json=body("fake:tokens=2"))
    assert answer.status_code == 200, answer.text
    assert own.engine_pids() != [engine]
    assert "inhouse_engine_restarts_total" in own.client.get("/metrics").text


def test_a_request_without_output_is_run_again_twice(own: Gateway) -> None:
    # It kills its engine before the first token, and then the next ones.
    answer = own.client.post(CHAT, json=body("fake:die@0", stream=True))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "engine_connection_lost"
    page = own.client.get("/metrics").text
    assert 'outcome="engine_error"} 1.0' in page
    assert 'inhouse_engine_restarts_total{model="fake"} 2.0' in page


@pytest.mark.parametrize("stream", [True, False])
def test_requests_of_an_engine_that_has_lost_its_core_are_run_on_the_next(
    own: Gateway, stream: bool
) -> None:
    (engine,) = own.engine_pids()
    answers: list[httpx.Response] = []

    def ask(text: str) -> None:
        answers.append(httpx.post(own.url + CHAT, json=body(text, stream=stream), headers=key,
                                  timeout=30))  # fmt: skip

    key = {"Authorization": f"Bearer {own.key}"}
    waiting = threading.Thread(target=ask, args=("fake:prefill=0.5",))
    waiting.start()
    time.sleep(0.2)
    # Its server outlives it for a second, in which it refuses everything.
    begun = own.client.post(CHAT, json=body("fake:core@1", stream=True))
    assert '"engine_error"' in begun.text
    assert "[DONE]" not in begun.text
    ask("hi")
    waiting.join(30)
    assert [one.status_code for one in answers] == [200, 200], [one.text for one in answers]
    assert all("error" not in one.text for one in answers)
    assert engine not in own.engine_pids()


def test_a_partial_stream_ends_in_a_typed_error(own: Gateway) -> None:
    answer = own.client.post(CHAT, json=body("fake:die@3", stream=True))
    events = answer.text.strip().split("\n\n")
    assert '"engine_connection_lost"' in events[-1]
    assert "[DONE]" not in answer.text
    assert own.client.post(CHAT, json=body("fake:tokens=1")).status_code == 200


def test_sigterm_finishes_streams_and_refuses_new_work(own: Gateway) -> None:
    (engine,) = own.engine_pids()
    texts: list[str] = []

    def read() -> None:
        texts.append(own.client.post(CHAT, json=body("fake:tokens=60", stream=True)).text)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.4)
    own.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    refused = httpx.post(
        own.url + CHAT, json=body("hi"), headers={"Authorization": f"Bearer {own.key}"}
    )
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "server_draining"
    assert refused.headers["retry-after"]
    assert httpx.get(f"{own.url}/health/ready").status_code == 503
    reader.join(20)
    assert texts[0].endswith("data: [DONE]\n\n")
    assert own.process.wait(20) == 0
    assert not Path(f"/proc/{engine}").exists()


def test_a_second_signal_ends_streams_with_a_typed_error(own: Gateway) -> None:
    texts: list[str] = []

    def read() -> None:
        texts.append(own.client.post(CHAT, json=body("fake:tokens=5000", stream=True)).text)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.4)
    own.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    own.process.send_signal(signal.SIGTERM)
    reader.join(20)
    assert "server_draining" in texts[0].strip().split("\n\n")[-1]
    assert "[DONE]" not in texts[0]
    assert own.process.wait(20) == 0


def test_no_engine_outlives_a_killed_gateway(own: Gateway) -> None:
    (engine,) = own.engine_pids()
    own.process.kill()
    own.process.wait()
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{engine}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not Path(f"/proc/{engine}").exists()
