"""A server elsewhere: how it is asked, watched, lost and found again."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from serve.core.errors import EngineError, EngineUnavailable
from serve.engines import remote as remote_engine
from serve.engines.client import VANISHED_S, EngineClient
from serve.engines.connection import ConnectionLost
from serve.engines.origin import origin_of
from serve.engines.remote import Pace, RemoteEngine
from serve.engines.states import State
from serve.engines.status import RETRY_FAILED_S
from serve.settings.remote import Remote
from tests.elsewhere import Elsewhere
from tests.engines.machine import CALL
from tests.tls import Authority, authority

KEY = "sk-very-secret"
QUICK = Pace(
    check_every_s=0.03,
    check_timeout_s=0.1,
    probe_timeout_s=0.1,
    retry_max_s=0.02,
    silence_max_s=0.3,
)


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    one = await Elsewhere().open()
    yield one
    await gone(one)


async def gone(one: Elsewhere) -> None:
    one.die()
    await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "ca.pem")


@asynccontextmanager
async def watched(url: str, pace: Pace = QUICK, **fields: Any) -> AsyncIterator[RemoteEngine]:
    """A server that is watched within."""
    engine = made(url, pace, **fields)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        await asyncio.sleep(0.01)


def made(url: str, pace: Pace = QUICK, **fields: Any) -> RemoteEngine:
    remote = Remote(url=url, **fields)
    return RemoteEngine("m", remote, "generate", name="m", waiting_max=2, pace=pace)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for comes over sockets
            await asyncio.sleep(0.002)


async def ask(client: EngineClient, text: str = "hi", **fields: Any) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]} | fields
    connection = await client.post("/v1/chat/completions", orjson.dumps(body))
    try:
        return connection.status, orjson.loads(await connection.read())
    finally:
        client.release(connection)


async def answers(engine: RemoteEngine) -> str:
    claim = await engine.claim(CALL, 5)
    try:
        status, answer = await ask(claim.client)
    finally:
        claim.release()
    assert status == 200, answer
    return str(answer["choices"][0]["message"]["content"])


# Ready


async def test_it_is_ready_once_it_has_answered_a_real_request(elsewhere: Elsewhere) -> None:
    engine = made(elsewhere.url)
    assert (engine.status.state, engine.client) == (State.STOPPED, None)
    with pytest.raises(EngineUnavailable, match=r"^m is not asked for any more"):
        await engine.claim(CALL, 5)
    engine.start()
    assert await answers(engine) == "w0 w1 w2 w3"
    assert elsewhere.asked[0] == "/v1/completions"
    assert engine.status.state is State.READY
    assert engine.status.last_error is None
    await engine.stop()
    assert engine.client is None
    engine.start()
    assert await answers(engine) == "w0 w1 w2 w3"
    await engine.stop()


async def test_watching_costs_it_no_work(elsewhere: Elsewhere) -> None:
    async with watched(elsewhere.url) as engine:
        await until(lambda: elsewhere.asked.count("/v1/models") >= 3)
        assert engine.status.state is State.READY
    assert elsewhere.engine.served == 1, "the probe, and nothing since"
    assert set(elsewhere.asked) == {"/v1/completions", "/v1/models"}


async def test_the_model_has_the_name_that_the_server_gives_it(elsewhere: Elsewhere) -> None:
    other = await Elsewhere("theirs").open()
    async with watched(other.url, model="theirs") as engine:
        assert await answers(engine) == "w0 w1 w2 w3"
    await gone(other)


async def cached(engine: RemoteEngine, salt: str) -> int:
    """Tokens of a prompt that the server had computed before, under this salt."""
    claim = await engine.claim(CALL, 5)
    status, answer = await ask(claim.client, "word " * 100, cache_salt=salt)
    claim.release()
    assert status == 200
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])


async def test_vllm_is_sent_the_salt_of_a_tenant(elsewhere: Elsewhere) -> None:
    async with watched(elsewhere.url) as engine:
        assert await cached(engine, "a") == 0
        assert await cached(engine, "a") > 0
        assert await cached(engine, "b") == 0


async def test_another_server_is_sent_no_field_that_it_may_not_know(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_engine, "VLLM", "somebody else")
    async with watched(elsewhere.url) as engine:
        assert await cached(engine, "a") == 0
        assert await cached(engine, "b") > 0, "all are one to it"


async def test_a_name_that_it_does_not_know_is_a_refusal(elsewhere: Elsewhere) -> None:
    async with watched(elsewhere.url, model="unknown") as engine:
        await until(lambda: engine.status.state is State.FAILED)
        with pytest.raises(EngineUnavailable, match=r"^m is refused by the server") as refused:
            await engine.claim(CALL, 5)
    assert refused.value.retry_after_s == RETRY_FAILED_S
    assert "does not exist" in (engine.status.last_error or "")


# TLS


async def test_tls_with_the_sites_own_authority(signer: Authority) -> None:
    other = await Elsewhere(tls=signer.context("127.0.0.1")).open()
    async with watched(other.url, ca_file=signer.file) as engine:
        assert await answers(engine) == "w0 w1 w2 w3"
    await gone(other)


@pytest.mark.parametrize(
    ("names", "trusted", "why"),
    [
        (["127.0.0.1"], None, "certificate is refused"),
        (["127.0.0.1"], "another", "certificate is refused"),
        (["node-2", "127.0.0.2"], "its own", "IP address mismatch"),
    ],
)
async def test_a_server_that_is_not_the_right_one_is_told_nothing(
    signer: Authority, tmp_path: Path, names: list[str], trusted: str | None, why: str
) -> None:
    files = {
        "its own": signer.file,
        "another": authority(tmp_path / "other.pem").file,
        None: None,
    }
    other = await Elsewhere(tls=signer.context(*names)).open()
    async with watched(other.url, ca_file=files[trusted]) as engine:
        await until(lambda: engine.status.last_error is not None)
        assert why in (engine.status.last_error or "")
        with pytest.raises(EngineUnavailable, match="m is not reachable"):
            await engine.claim(CALL, 0.05)
    assert other.asked == []
    await gone(other)


async def test_tls_to_a_server_without_it_fails_in_words(elsewhere: Elsewhere) -> None:
    async with watched(elsewhere.url.replace("http:", "https:")) as engine:
        await until(lambda: engine.status.last_error is not None)
        assert "cannot be reached" in (engine.status.last_error or "")
    assert elsewhere.asked == []


# Keys


async def test_the_key_is_shown_and_nowhere_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "key"
    file.write_text("sk-an-old-secret\n")
    other = await Elsewhere(key=KEY).open()
    async with watched(other.url, key_file=file) as engine:
        await until(lambda: engine.status.state is State.FAILED)
        assert engine.status.last_error is not None
        assert "Incorrect API key" in engine.status.last_error, "the server's own words"
        assert "old-secret" not in engine.status.last_error
        # The key in the file counts from the next try on.
        file.write_text(f"{KEY}\n")
        await until(lambda: engine.status.state is State.READY)
        assert await answers(engine) == "w0 w1 w2 w3"
        assert engine.client is not None
        assert KEY not in f"{engine.client.address!r}{engine.status!r}"
    said = "".join(f"{record.getMessage()}{record.__dict__}" for record in caplog.records)
    assert "a server elsewhere does not answer" in said
    assert "old-secret" not in said
    assert KEY not in said
    await gone(other)


async def test_requests_in_hand_outlive_a_change_of_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    other = await Elsewhere(key=KEY).open()
    async with watched(other.url, key_file=file) as engine:
        claim = await engine.claim(CALL, 5)
        asking = asyncio.create_task(ask(claim.client, "fake:prefill=0.3"))
        await until(lambda: other.engine.running == 1)
        other.key = "sk-new"
        file.write_text("sk-new")
        await until(lambda: engine.client not in (None, claim.client))
        status, _ = await asking
        claim.release()
        assert status == 200
        assert await answers(engine) == "w0 w1 w2 w3"
        assert engine.status.restarts == 0
    await gone(other)


# Lost and found


async def test_one_that_is_down_is_named_with_an_honest_retry() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with watched(f"http://127.0.0.1:{port}") as engine:
            waiting = [asyncio.create_task(engine.claim(CALL, 0.2)) for _ in range(2)]
            await asyncio.sleep(0.05)
            with pytest.raises(EngineUnavailable, match="m is not reachable, and 2 requests wait"):
                await engine.claim(CALL, 5)
            for one in waiting:
                with pytest.raises(EngineUnavailable, match=r"^m is not reachable;") as refused:
                    await one
                assert refused.value.retry_after_s >= 1
                assert "127.0.0.1" not in refused.value.message, "addresses are the operator's"
            assert engine.status.state is State.STARTING
            assert "Connection refused" in (engine.status.last_error or "")


async def test_it_comes_back_by_itself_and_serves_who_waited(elsewhere: Elsewhere) -> None:
    async with watched(elsewhere.url) as engine:
        assert await answers(engine)
        elsewhere.die()
        await until(lambda: engine.status.state is State.STARTING)
        assert engine.client is None
        waiting = asyncio.create_task(answers(engine))
        await asyncio.sleep(0.02)
        await elsewhere.open()
        assert await waiting == "w0 w1 w2 w3"
        status = engine.status
        assert (status.state, status.generation, status.restarts) == (State.READY, 1, 1)


async def test_a_request_lost_on_it_has_it_looked_at_now(elsewhere: Elsewhere) -> None:
    slow = Pace(check_every_s=60, check_timeout_s=0.5, probe_timeout_s=0.5, retry_max_s=0.02)
    async with watched(elsewhere.url, slow) as engine:
        claim = await engine.claim(CALL, 5)
        claim.release()
        # Only the connection was lost: the same server is asked again.
        again = await engine.claim(CALL, 5, claim.client)
        again.release()
        assert again.client is claim.client
        assert elsewhere.asked[-1] == "/v1/models"
        elsewhere.die()
        with pytest.raises(EngineUnavailable, match="m is not reachable"):
            await engine.claim(CALL, 0.1, claim.client)


async def test_one_that_closes_its_door_ends_what_it_has_begun(elsewhere: Elsewhere) -> None:
    async with watched(elsewhere.url) as engine:
        claim = await engine.claim(CALL, 5)
        asking = asyncio.create_task(ask(claim.client, "fake:prefill=0.6"))
        await until(lambda: elsewhere.engine.running == 1)
        elsewhere.shut()
        for door in tuple(elsewhere.doors):
            if door._answer is None and door._work is None:
                door.close()  # kept connections without work
        status, _ = await asking
        claim.release()
        assert status == 200
        await until(lambda: engine.status.state is State.STARTING)


async def test_one_that_falls_silent_loses_what_it_has_in_hand(elsewhere: Elsewhere) -> None:
    async with watched(elsewhere.url) as engine:
        claim = await engine.claim(CALL, 5)
        asking = asyncio.create_task(ask(claim.client, "fake:prefill=60"))
        await until(lambda: elsewhere.engine.running == 1)
        elsewhere.mute = True
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionLost) as lost:
            await asking
        claim.release()
        assert not lost.value.answered
        assert asyncio.get_running_loop().time() - began_s >= QUICK.silence_max_s
        elsewhere.mute = False
        assert await answers(engine) == "w0 w1 w2 w3"


async def test_its_end_waits_for_what_it_has_in_hand(elsewhere: Elsewhere) -> None:
    engine = made(elsewhere.url)
    engine.start()
    claim = await engine.claim(CALL, 5)
    asking = asyncio.create_task(ask(claim.client, "fake:prefill=0.15"))
    stopping = asyncio.create_task(engine.stop(5))
    status, _ = await asking
    assert status == 200
    assert not stopping.done()
    claim.release()
    await stopping
    assert engine.in_hand == 0


async def test_a_machine_that_vanishes_is_noticed_by_the_kernel(elsewhere: Elsewhere) -> None:
    client = EngineClient(origin_of(Remote(url=elsewhere.url), None, None))
    connection = await client.post("/v1/models", b"{}")
    assert connection._transport is not None
    kept = connection._transport.get_extra_info("socket")
    assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    idle_s, every_s, times = (
        kept.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle_s + every_s * times <= VANISHED_S
    assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == VANISHED_S * 1000
    await connection.read()
    client.release(connection)
    await client.close()
    await asyncio.sleep(0.01)


# For an apply


async def test_it_is_proven_by_an_answer(elsewhere: Elsewhere) -> None:
    async with watched(elsewhere.url) as engine:
        await engine.proven()
        assert engine.status.state is State.READY


async def test_it_is_refused_at_its_first_failure_with_the_address(elsewhere: Elsewhere) -> None:
    elsewhere.die()
    async with watched(elsewhere.url) as engine:
        with pytest.raises(EngineError, match=rf"^m is not answered at {elsewhere.url}: .*refused"):
            await engine.proven()
