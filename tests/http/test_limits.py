"""Limits, turns and tiers as clients meet them, over the fake engine."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Gateway, start_gateway

SITE = """\
site: t
root: .
model_files: models
var_dir: .
engine_defaults: {{kind: fake}}
limits: {limits}
models: [{{use: fake}}]
"""
MODEL = "name: fake\nsource: {path: none}\ncontext_tokens: 1000\nmax_streams: 2\n"
CHAT = "/v1/chat/completions"


def started(folder: Path, limits: str) -> Gateway:
    (folder / "models").mkdir()
    (folder / "models" / "fake.yaml").write_text(MODEL)
    (folder / "site.yaml").write_text(SITE.format(limits=limits))
    return start_gateway(folder, "serve", "--site", str(folder / "site.yaml"), "--starter-key")


def body(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}]} | fields


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = started(
        tmp_path_factory.mktemp("limited"),
        "{each_tenant: {requests_per_minute: 1000, output_tokens_per_minute: 5000, "
        "context_tokens: 100, choices: 2, tiers: [flex], concurrent_requests: 8}}",
    )
    yield gateway
    assert gateway.stop() == 0


def left(answer: httpx.Response, kind: str) -> int:
    return int(answer.headers[f"x-ratelimit-remaining-{kind}"])


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, body("fake:tokens=7")),
        (CHAT, body("fake:tokens=7", stream=True)),
        ("/v1/completions", {"model": "fake", "prompt": "fake:tokens=7"}),
        ("/v1/responses", {"model": "fake", "input": "fake:tokens=7"}),
        ("/v1/responses", {"model": "fake", "input": "fake:tokens=7", "stream": True}),
        ("/v1/messages", body("fake:tokens=7", max_tokens=20)),
    ],
)
def test_every_answer_says_what_is_left(limited: Gateway, path: str, fields: Any) -> None:
    first = limited.client.post(path, json=fields)
    second = limited.client.post(path, json=fields)
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.headers["x-ratelimit-limit-requests"] == "1000"
    assert second.headers["x-ratelimit-limit-tokens"] == "5000"
    assert left(first, "requests") - left(second, "requests") == 1
    for kind in ("requests", "tokens"):
        assert re.fullmatch(
            r"(\d+h)?(\d+m)?\d+(\.\d+)?m?s", second.headers[f"x-ratelimit-reset-{kind}"]
        )


def test_tokens_are_corrected_to_what_was_used(limited: Gateway) -> None:
    ask = body("fake:tokens=7", max_completion_tokens=50)
    before = left(limited.client.post(CHAT, json=ask), "tokens")
    after = left(limited.client.post(CHAT, json=ask), "tokens")
    assert before - after == 7


def test_no_headers_where_there_is_no_limit(gateway: Gateway) -> None:
    answer = gateway.client.post(CHAT, json=body())
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_what_a_tenant_may_never_ask_for_is_refused_by_name(limited: Gateway) -> None:
    for fields, param, words in (
        ({"n": 3}, "n", "choices"),
        ({"max_completion_tokens": 101}, "messages", "context_tokens"),
        ({"messages": [{"role": "user", "content": "x " * 120}]}, "messages", "context_tokens"),
    ):
        refused = limited.client.post(CHAT, json=body() | fields)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == param
        assert words in refused.json()["error"]["message"]
    assert limited.client.post(CHAT, json=body(n=2)).status_code == 200


def test_an_answer_without_a_bound_ends_where_the_tenant_s_context_does(limited: Gateway) -> None:
    answer = limited.client.post(CHAT, json=body("fake:tokens=500")).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] <= 130


def test_the_tier_that_it_was_served_in(limited: Gateway) -> None:
    sdk: Any = openai.OpenAI(base_url=f"{limited.url}/v1", api_key=limited.key)
    message: Any = [{"role": "user", "content": "hi"}]
    for asked, served in (("auto", "default"), ("flex", "flex"), ("priority", "default")):
        answer = sdk.chat.completions.create(model="fake", messages=message, service_tier=asked)
        assert answer.service_tier == served
        chunks = sdk.chat.completions.create(
            model="fake", messages=message, service_tier=asked, stream=True
        )
        assert {chunk.service_tier for chunk in chunks} == {served}
        response = sdk.responses.create(model="fake", input="hi", service_tier=asked)
        assert response.service_tier == served


def test_limits_in_words_the_sdks_understand(tmp_path: Path) -> None:
    gateway = started(
        tmp_path,
        "{each_tenant: {requests_per_day: 2, models: {fake: {output_tokens_per_minute: 90}}}}",
    )
    try:
        sdk: Any = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)
        with pytest.raises(openai.RateLimitError) as large:
            sdk.chat.completions.create(**body(max_completion_tokens=91))
        assert (large.value.type, large.value.code) == ("tokens", "rate_limit_exceeded")
        assert large.value.response.headers["x-should-retry"] == "false"
        assert "retry-after" not in large.value.response.headers
        for _ in range(2):
            sdk.chat.completions.create(**body(max_completion_tokens=5))
        with pytest.raises(openai.RateLimitError) as spent:
            sdk.chat.completions.create(**body(max_completion_tokens=5))
        assert (spent.value.type, spent.value.code) == ("requests", "rate_limit_exceeded")
        assert 86_000 < int(spent.value.response.headers["retry-after"]) <= 86_700
        assert spent.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        assert spent.value.response.headers["x-ratelimit-reset-requests"].startswith(("23h", "24h"))
        anthropic = gateway.client.post("/v1/messages", json=body(max_tokens=5))
        assert anthropic.status_code == 429
        assert anthropic.json()["error"]["type"] == "rate_limit_error"
        time.sleep(1.2)  # what is counted is written once a second
        gateway.process.kill()
        gateway.process.wait()
        gateway.client.close()
        gateway = start_gateway(
            tmp_path, "serve", "--site", str(tmp_path / "site.yaml"), "--starter-key"
        )
        again = gateway.client.post(CHAT, json=body(max_completion_tokens=5))
        assert again.status_code == 429
        assert 'outcome="rate_limited"' in gateway.client.get("/metrics").text
    finally:
        gateway.stop()


async def test_turns(tmp_path: Path) -> None:
    """Two on the engine, two that wait, one too many; who leaves the line frees a place."""
    gateway = await asyncio.to_thread(started, tmp_path, "{queue_requests: 4, queue_wait_s: 30}")
    try:
        headers = {"Authorization": f"Bearer {gateway.key}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:

            async def ask(text: str, **fields: Any) -> httpx.Response:
                return await client.post(CHAT, json=body(text, **fields))

            slow = [asyncio.create_task(ask("fake:tokens=20 fake:pace=0.1")) for _ in range(2)]
            await _until(client, running=2, waiting=0)
            third = asyncio.create_task(ask("fake:tokens=1"))
            fourth = asyncio.create_task(ask("fake:tokens=1"))
            await _until(client, running=4, waiting=2)
            shed = await ask("hi")
            assert (shed.status_code, shed.json()["error"]["code"]) == (503, "overloaded")
            assert int(shed.headers["retry-after"]) >= 1
            fourth.cancel()
            await _until(client, running=3, waiting=1)
            fifth = asyncio.create_task(ask("fake:tokens=1"))
            await _until(client, running=4, waiting=2)
            answers = await asyncio.gather(*slow, third, fifth)
            assert [answer.status_code for answer in answers] == [200] * 4
            page = (await client.get("/metrics")).text
            assert 'inhouse_queue_wait_seconds_count{class="default",model="fake"}' in page
    finally:
        assert await asyncio.to_thread(gateway.stop) == 0


async def _until(client: httpx.AsyncClient, *, running: int, waiting: int) -> None:
    """`running`: those in hand, waiting or not."""
    async with asyncio.timeout(10):
        while True:
            page = (await client.get("/metrics")).text
            lines = page.splitlines()
            queued = sum(
                float(line.rpartition(" ")[2])
                for line in lines
                if line.startswith("inhouse_queue_waiting_requests{")
            )
            held = sum(
                float(line.rpartition(" ")[2])
                for line in lines
                if line.startswith("inhouse_requests_in_flight{")
            )
            if (held, queued) == (running, waiting):
                return
            await asyncio.sleep(0.02)
