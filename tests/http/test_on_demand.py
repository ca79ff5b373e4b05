"""Two models on memory for one: loaded when asked for, and no request lost to the other's."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.core.errors import SetupError
from serve.settings.load import load_site
from serve.sites import portfolio_of
from tests.conftest import Gateway, start_gateway

CHAT = "/v1/chat/completions"
SITE = """\
site: t
root: .
model_files: models
auth: {{mode: none}}
engine_defaults: {{kind: fake}}
memory: {{host_gib: {host_gib}}}
limits: {{ready_wait_s: {ready_wait_s}, waiting_requests: 20}}
models:
  - {{use: a}}
  - {{use: b, load: on_demand}}
"""


def write_site(folder: Path, *, host_gib: float = 3, ready_wait_s: float = 30) -> Path:
    (folder / "models").mkdir()
    for name in "ab":
        text = f"name: {name}\nsource: {{path: none}}\ncontext_tokens: 1000\ncpu_kv_gib: 2\n"
        (folder / "models" / f"{name}.yaml").write_text(text)
    (folder / "starter.key").write_text("none")  # what `start_gateway` waits for
    site = folder / "site.yaml"
    site.write_text(SITE.format(host_gib=host_gib, ready_wait_s=ready_wait_s))
    return site


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("on-demand")
    running = start_gateway(folder, "serve", "--site", str(write_site(folder)))
    yield running
    assert running.stop() == 0


@pytest.fixture
def gateway(both: Gateway) -> Gateway:
    """The same for all tests, with the first model loaded."""
    assert both.client.post(CHAT, json=body("a")).status_code == 200
    return both


def body(model: str, text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]} | fields


def states(gateway: Gateway) -> dict[str, str]:
    health = gateway.client.get("/health/ready")
    assert health.status_code == 200, "a model that rests is no fault"
    return {name: about["state"] for name, about in health.json()["models"].items()}


def series(gateway: Gateway, name: str) -> dict[str, float]:
    lines = gateway.client.get("/metrics").text.splitlines()
    rows = [line.rsplit(" ", 1) for line in lines if line.startswith(name)]
    return {labels.removeprefix(name): float(value) for labels, value in rows}


def loads(gateway: Gateway) -> Counter[str]:
    """Of each model, how often it has been loaded."""
    found = series(gateway, "inhouse_model_loads_total")
    return Counter({labels.split('"')[3]: int(value) for labels, value in found.items()})


def stream(gateway: Gateway, model: str) -> tuple[int, list[str]]:
    asked = body(model, stream=True)
    with gateway.client.stream("POST", CHAT, json=asked) as answer:
        return answer.status_code, [line for line in answer.iter_lines() if line]


async def ask(gateway: Gateway, *bodies: dict[str, Any]) -> list[httpx.Response]:
    """All at once."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60, limits=limits) as client:
        return await asyncio.gather(*(client.post(CHAT, json=one) for one in bodies))


def test_models_take_turns_on_the_memory_and_scrapes_wake_none(gateway: Gateway) -> None:
    assert states(gateway) == {"a": "ready", "b": "stopped"}
    before = loads(gateway)
    assert len(gateway.engine_pids()) == 1
    for name in "bab":
        answer = gateway.client.post(CHAT, json=body(name))
        assert answer.status_code == 200
        assert answer.json()["model"] == name
        assert len(gateway.engine_pids()) == 1
    assert states(gateway) == {"a": "stopped", "b": "ready"}
    for _ in range(5):
        assert series(gateway, "inhouse_model_waiting_requests") == {
            '{model="a"}': 0,
            '{model="b"}': 0,
        }
        gateway.client.get("/v1/models")
    time.sleep(0.3)
    assert states(gateway) == {"a": "stopped", "b": "ready"}
    assert loads(gateway) - before == {"a": 1, "b": 2}
    evictions = series(gateway, "inhouse_model_evictions_total")
    assert evictions['{how="stop",model="a"}'] >= 2


async def test_all_who_want_a_model_that_is_not_there_are_served_by_one_load(
    gateway: Gateway,
) -> None:
    before = loads(gateway)
    answers = await ask(gateway, *[body("b")] * 20)
    assert [answer.status_code for answer in answers] == [200] * 20
    assert loads(gateway) - before == {"b": 1}


async def test_mixed_load_loses_no_request(gateway: Gateway) -> None:
    bodies = [body("ab"[at % 2], f"fake:prefill={at % 3 / 20}", max_tokens=4) for at in range(30)]
    answers = await ask(gateway, *bodies)
    assert [answer.status_code for answer in answers] == [200] * 30
    assert [answer.json()["model"] for answer in answers] == ["a", "b"] * 15
    assert len(gateway.engine_pids()) == 1


async def test_so_many_wait_for_a_load_and_the_others_are_told_when_to_come_back(
    gateway: Gateway,
) -> None:
    answers = await ask(gateway, *[body("b")] * 30)
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * 20 + [503] * 10
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "model_not_ready"
    assert "20 requests wait for it already" in refused.json()["error"]["message"]


async def test_a_stream_that_waits_for_memory_shows_that_it_is_alive(gateway: Gateway) -> None:
    holding = asyncio.create_task(ask(gateway, body("a", "fake:prefill=3.5")))
    await asyncio.sleep(0.2)
    status, lines = await asyncio.to_thread(stream, gateway, "b")
    (held,) = await holding
    assert held.status_code == 200, "a model in use is never taken away from who uses it"
    assert status == 200
    assert lines[0].startswith(": waiting for b, 3 s of about ")
    assert lines[-1] == "data: [DONE]"
    assert sum(line.startswith(":") for line in lines) == 1


async def test_a_wait_in_vain_ends_with_an_error_in_the_stream(tmp_path: Path) -> None:
    site = write_site(tmp_path, ready_wait_s=3.3)
    gateway = start_gateway(tmp_path, "serve", "--site", str(site))
    holding = asyncio.create_task(ask(gateway, body("a", "fake:prefill=3.9")))
    await asyncio.sleep(0.2)
    unstreamed = asyncio.create_task(ask(gateway, body("b")))
    status, lines = await asyncio.to_thread(stream, gateway, "b")
    assert status == 200, "the comment had gone out before"
    assert lines[0].startswith(": waiting for b")
    assert '"code":"model_not_ready"' in lines[-1]
    assert "data: [DONE]" not in lines
    (plain,) = await unstreamed
    assert plain.status_code == 503
    assert int(plain.headers["retry-after"]) >= 1
    assert (await holding)[0].status_code == 200
    assert gateway.stop() == 0


def test_a_site_that_cannot_fit_is_refused_with_the_figures(tmp_path: Path) -> None:
    site = load_site(write_site(tmp_path, host_gib=1.5))
    with pytest.raises(SetupError) as refused:
        portfolio_of(site, {})
    assert refused.value.message.startswith(
        "the models that are pinned or loaded at startup do not fit together: 2.0 GiB of host "
        "memory needed, 1.5 GiB of host memory granted (a 2.0 GiB of host memory); "
    )
