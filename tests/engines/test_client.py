"""The engine client against the fake engine on a real Unix socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from serve.core.errors import EngineError, EngineUnavailable
from serve.engines import connection as module
from serve.engines.client import EngineClient
from serve.engines.connection import ConnectionLost
from serve.engines.fake import FakeEngine, FakeProtocol, Knobs


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(Knobs(model="m", tokens=4))


@pytest.fixture
async def socket(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[Path]:
    path = tmp_path / "engine.sock"
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: FakeProtocol(engine), str(path)
    )
    yield path
    server.close()


@pytest.fixture
async def client(socket: Path) -> AsyncIterator[EngineClient]:
    one = EngineClient(socket)
    yield one
    await one.close()
    await asyncio.sleep(0.01)


def body(text: str = "hi", **fields: Any) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": text}]} | fields)


async def ask(client: EngineClient, data: bytes) -> bytes:
    connection = await client.post("/v1/chat/completions", data)
    try:
        return await connection.read()
    finally:
        client.release(connection)


async def test_an_answer_and_the_connection_is_used_again(client: EngineClient) -> None:
    first = orjson.loads(await ask(client, body()))
    assert first["choices"][0]["message"]["content"] == "w0 w1 w2 w3"
    assert len(client._idle) == 1
    kept = client._idle[0]
    await ask(client, body())
    assert client._idle == [kept]


async def test_a_stream_arrives_in_pieces(client: EngineClient) -> None:
    connection = await client.post("/v1/chat/completions", body(stream=True))
    data = b""
    while piece := await connection.next_bytes():
        data += piece
    client.release(connection)
    assert data.endswith(b"data: [DONE]\n\n")
    assert client._idle == [connection]


async def test_an_answer_left_unread_is_cancelled(client: EngineClient, engine: FakeEngine) -> None:
    connection = await client.post("/v1/chat/completions", body("fake:hang@2", stream=True))
    assert await connection.next_bytes()
    running = engine.running
    client.release(connection)
    for _ in range(100):
        if engine.running < running:
            break
        await asyncio.sleep(0.01)
    assert engine.running == running - 1
    assert client._idle == []


async def test_a_connection_dropped_midway_is_an_error(client: EngineClient) -> None:
    connection = await client.post("/v1/chat/completions", body("fake:drop@2", stream=True))
    with pytest.raises(ConnectionLost) as caught:
        while await connection.next_bytes():
            pass
    assert caught.value.answered
    client.release(connection)


async def test_a_kept_connection_that_the_engine_closed_is_replaced(client: EngineClient) -> None:
    await ask(client, body())
    client._idle[0]._transport.abort()  # type: ignore[union-attr]  # connected: it has one
    # Before the loop has seen the close, the next request may still pick it.
    assert orjson.loads(await ask(client, body()))["choices"]


async def test_closing_ends_what_is_in_flight(client: EngineClient) -> None:
    connection = await client.post("/v1/chat/completions", body("fake:hang@1", stream=True))
    await connection.next_bytes()
    waiting = asyncio.create_task(connection.next_bytes())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ConnectionLost):
        await waiting
    with pytest.raises(EngineUnavailable):
        await client.post("/v1/chat/completions", body())


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="cannot be reached"):
        await EngineClient(tmp_path / "absent.sock").post("/", b"")


async def test_probe(client: EngineClient, tmp_path: Path) -> None:
    await client.probe_ready("m", "generate", 5)
    await client.probe_ready("m", "embed", 5)
    with pytest.raises(EngineError):
        await EngineClient(tmp_path / "absent.sock").probe_ready("m", "generate", 5)


async def test_a_probe_that_hangs_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "slow.sock"
    engine = FakeEngine(Knobs(model="m", ttft_ms=60_000))
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: FakeProtocol(engine), str(path)
    )
    slow = EngineClient(path)
    with pytest.raises(EngineError, match=r"0\.05 s"):
        await slow.probe_ready("m", "generate", 0.05)
    await slow.close()
    server.close()
    await asyncio.sleep(0.01)


async def test_a_slow_consumer_stops_the_engine(
    client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUFFER_MAX_BYTES", 4096)
    connection = await client.post("/v1/chat/completions", body("fake:tokens=20000", stream=True))
    for _ in range(50):
        await asyncio.sleep(0.005)
    assert connection._paused
    assert connection._buffered_bytes < 4096 + 512 * 1024
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while piece := await connection.next_bytes():
                size += len(piece)
    assert size > 20000 * 100
    client.release(connection)


async def test_pieces_of_good_answers_are_counted_and_nothing_else(client: EngineClient) -> None:
    assert (client.received, client.waiting) == (0, 0)
    connection = await client.post("/v1/chat/completions", body("fake:hang@2", stream=True))
    await connection.next_bytes()
    assert client.received >= 1
    assert client.waiting == 1
    client.release(connection)
    assert client.waiting == 0
    before = client.received
    await client.get("/metrics", 5)
    await ask(client, body("fake:status=400"))
    assert client.received == before
    await ask(client, body())
    assert client.received > before
