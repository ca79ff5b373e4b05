"""Several engines of one model behind a real gateway: here, elsewhere, and dying."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.conftest import Gateway, Inhouse, start_gateway
from tests.elsewhere import Elsewhere
from tests.tls import authority

in_one_loop = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
KEY = "sk-of-another-node"
SITE = """\
site: t
root: .
model_files: models
auth: {{mode: none}}
engine_defaults: {{kind: fake}}
limits: {{ready_wait_s: {ready_wait_s}}}
models:
"""


def write_site(folder: Path, *, ready_wait_s: float = 20, **entries: str) -> Path:
    """A site of these models, each with what is said of it."""
    (folder / "models").mkdir(parents=True)
    text = SITE.format(ready_wait_s=ready_wait_s)
    for name, entry in entries.items():
        file = folder / "models" / f"{name}.yaml"
        file.write_text(f"name: {name}\nsource: {{path: none}}\ncontext_tokens: 8192\n")
        text += f"  - {{use: {name}, {entry}}}\n"
    (folder / "starter.key").write_text("none")  # what `start_gateway` waits for
    site = folder / "site.yaml"
    site.write_text(text)
    return site


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two engines here."""
    folder = tmp_path_factory.mktemp("replicas")
    running = start_gateway(folder, "serve", "--site", str(write_site(folder, m="replicas: 2")))
    # The door is open once one of them answers.
    asyncio.run(healthy(running, ["ready", "ready"]))
    yield running
    assert running.stop() == 0


@dataclass
class Far:
    """A gateway of models that are answered elsewhere, and the servers that do."""

    gateway: Gateway
    guarded: Elsewhere
    pair: tuple[Elsewhere, Elsewhere]

    @property
    def log(self) -> str:
        folder = self.gateway.var_dir
        return (folder / "stderr.txt").read_text() + (folder / "stdout.txt").read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def far(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> AsyncIterator[Far]:
    """`guarded` is behind TLS and a key, `both` is on two servers, `other` on another gateway."""
    folder = tmp_path_factory.mktemp("far")
    signer = authority(folder / "ca.pem")
    (folder / "key").write_text(KEY)
    (folder / "other-key").write_text(gateway.key)
    guarded = await Elsewhere("theirs", tls=signer.context("127.0.0.1"), key=KEY).open()
    one, two = await Elsewhere("both").open(), await Elsewhere("both").open()
    site = write_site(
        folder,
        ready_wait_s=0.5,
        guarded=f"snapshot: 2026-01-01, engine: {{kind: remote, url: '{guarded.url}', "
        "model: theirs, key_file: key, ca_file: ca.pem}",
        both=f"engine: {{url: '{one.url}', more_urls: ['{two.url}']}}",
        other=f"engine: {{url: '{gateway.url}', model: fake, key_file: other-key}}",
    )
    running = await asyncio.to_thread(start_gateway, folder, "serve", "--site", str(site))
    yield Far(running, guarded, (one, two))
    assert await asyncio.to_thread(running.stop) == 0
    for server in (guarded, one, two):
        server.die()
    await asyncio.sleep(0.01)


def body(text: str, *more: str, model: str = "m", **fields: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    said = [{"role": roles[at % 2], "content": one} for at, one in enumerate((text, *more))]
    return {"model": model, "messages": said} | fields


def client_of(gateway: Gateway) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=gateway.url, timeout=60, limits=limits)


async def ask(gateway: Gateway, *bodies: dict[str, Any]) -> list[httpx.Response]:
    """All at once."""
    async with client_of(gateway) as client:
        return await asyncio.gather(*(client.post(CHAT, json=one) for one in bodies))


def whole(answer: httpx.Response, *, streamed: bool) -> bool:
    if answer.status_code != 200:
        return False
    if streamed:
        return "error" not in answer.text and answer.text.endswith("data: [DONE]\n\n")
    return answer.json()["choices"][0]["finish_reason"] == "stop"


@in_one_loop
async def test_a_conversation_finds_its_cache_again(pair: Gateway) -> None:
    # Long enough for all to be in hand at once: then neither engine is given more than its share.
    long = "words of a long question " * 40 + "fake:prefill=0.1"
    asked = [f"{number} of many {long}" for number in range(12)]
    first = await ask(pair, *(body(text) for text in asked))
    assert {one.json()["usage"]["prompt_tokens_details"]["cached_tokens"] for one in first} == {0}
    # One after another: together, some would have to give way where chance, which the cache's
    # salt decides anew at each site, has put too many of them on one engine.
    for text in asked:
        (second,) = await ask(pair, body(text, "so", "go on"))
        usage = second.json()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 0.8 * usage["prompt_tokens"]
    served = series(pair, "fake_requests_served_total")
    assert set(served) == {'{model="m",replica="1"}', '{model="m",replica="2"}'}
    assert min(served.values()) > 4, "both have work"


def series(gateway: Gateway, name: str) -> dict[str, float]:
    lines = gateway.client.get("/metrics").text.splitlines()
    rows = [line.rsplit(" ", 1) for line in lines if line.startswith(name)]
    return {labels.removeprefix(name): float(value) for labels, value in rows}


@in_one_loop
async def test_requests_without_output_survive_the_death_of_their_engine(pair: Gateway) -> None:
    victim, other = pair.engine_pids()
    bodies = [
        body(f"{number} fake:prefill=0.8", stream=number % 2 == 0, max_tokens=20)
        for number in range(24)
    ]
    asking = asyncio.create_task(ask(pair, *bodies))
    await asyncio.sleep(0.4)
    os.kill(victim, signal.SIGKILL)
    answers = await asking
    lost = [one.text for one, asked in zip(answers, bodies, strict=True)
            if not whole(one, streamed=asked["stream"])]  # fmt: skip
    assert lost == []
    await healthy(pair, ["ready", "ready"])
    assert other in pair.engine_pids()
    assert victim not in pair.engine_pids()
    log = (pair.var_dir / "stderr.txt").read_text().splitlines()
    (crash,) = (line for line in log if "engine crashed" in line)
    assert '"engine":"m#1"' in crash or '"engine":"m#2"' in crash


async def healthy(gateway: Gateway, states: list[str]) -> None:
    """Wait until its replicas are in these states."""
    async with asyncio.timeout(10), client_of(gateway) as client:
        found = None
        while found != states:
            found = (await client.get("/health/ready")).json()["models"]["m"]["replicas"]
            await asyncio.sleep(0.05)


@in_one_loop
async def test_a_stream_that_had_begun_ends_with_a_typed_error(pair: Gateway) -> None:
    (answer,) = await ask(pair, body("fake:die@3", stream=True))
    assert answer.status_code == 200
    assert '"code":"engine_connection_lost"' in answer.text
    assert "[DONE]" not in answer.text
    await healthy(pair, ["ready", "ready"])


@in_one_loop
async def test_a_server_elsewhere_over_tls_with_a_key(far: Far) -> None:
    whole_one, streamed = await ask(
        far.gateway, body("hi", model="guarded"), body("hi", model="guarded", stream=True)
    )
    assert whole_one.json()["model"] == "guarded-2026-01-01", "the name that this site gives it"
    assert whole_one.json()["choices"][0]["message"]["content"] == "w0 w1 w2 w3"
    assert whole(streamed, streamed=True)
    assert "theirs" not in streamed.text
    for _ in range(3):
        await asyncio.to_thread(far.gateway.client.get, "/metrics")
    asked = [path for path in far.guarded.asked if path not in ("/v1/models", "/metrics")]
    assert asked == ["/v1/completions", CHAT, CHAT], "the probe and the two requests"
    assert far.guarded.asked.count("/metrics") == 1, "for the size of its cache, not for ours"
    assert KEY not in far.log


@in_one_loop
async def test_another_gateway_as_a_server_elsewhere(far: Far) -> None:
    answers = await ask(
        far.gateway,
        body("hi", model="other"),
        body("hi", model="other", stream=True),
        body("fake:status=400", model="other"),
    )
    assert whole(answers[0], streamed=False)
    assert whole(answers[1], streamed=True)
    assert answers[0].json()["model"] == "other"
    assert answers[2].status_code == 400


@in_one_loop
async def test_of_two_elsewhere_one_dies_and_no_request_is_lost(far: Far) -> None:
    bodies = [body(f"{number} fake:prefill=0.5", model="both") for number in range(16)]
    asking = asyncio.create_task(ask(far.gateway, *bodies))
    async with asyncio.timeout(10):
        while not all(one.engine.running for one in far.pair):  # noqa: ASYNC110 - over sockets
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    far.pair[0].die()
    assert all(whole(one, streamed=False) for one in await asking)
    # While it is down, nobody is sent there in vain.
    after = await ask(far.gateway, *(body(f"{n} later", model="both") for n in range(8)))
    assert all(whole(one, streamed=False) for one in after)


@in_one_loop
async def test_one_that_is_down_is_named_and_comes_back(far: Far) -> None:
    far.guarded.die()
    asked = [body("hi", model="guarded"), body("hi", model="guarded", stream=True)]
    for answer in await ask(far.gateway, *asked):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        error = answer.json()["error"]
        assert error["code"] == "model_not_ready"
        assert error["message"].startswith("guarded-2026-01-01 is not reachable")
        assert "127.0.0.1" not in answer.text
    assert far.guarded.url in far.log, "the operator reads which server it is"
    await far.guarded.open()
    async with asyncio.timeout(10):
        while (await ask(far.gateway, asked[0]))[0].status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def test_adapters_of_a_server_elsewhere_are_refused_at_the_door(
    tmp_path: Path, inhouse: Inhouse
) -> None:
    entry = "engine: {url: 'https://node-2'}, adapters: [{name: legal, path: legal}]"
    ran = inhouse("serve", "--site", str(write_site(tmp_path, m=entry)))
    assert ran.code == 2
    assert "models[0].adapters is for engines on this machine" in ran.err


def test_a_key_that_is_not_there_is_refused_at_the_door(tmp_path: Path, inhouse: Inhouse) -> None:
    entry = "engine: {url: 'https://node-2', key_file: absent}"
    ran = inhouse("serve", "--site", str(write_site(tmp_path, m=entry)))
    assert ran.code == 2
    assert "engine.key_file" in ran.err
