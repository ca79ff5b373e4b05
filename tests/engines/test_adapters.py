"""Adapters on engines that are processes without a model: loaded when asked for, once each."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from serve.core.call import Call, Principal
from serve.core.errors import EngineUnavailable
from serve.engines.adapters import Adapted, AdapterRefused, engine_name
from serve.engines.client import EngineClient
from serve.engines.fake.engine import FakeEngine
from serve.engines.fake.knobs import Knobs
from serve.engines.fake.wire import FakeProtocol
from serve.engines.status import EngineStatus
from tests.peft import write_adapter

CALL = Call(
    request_id="req_1", endpoint="completions", path="/v1/completions",
    principal=Principal("k"), model_id="fake:a", body={}, choices=1, include_usage=False,
    received_s=0.0,
)  # fmt: skip


@dataclass
class Process:
    """One fake engine on a socket, and a client of it."""

    engine: FakeEngine
    server: asyncio.Server
    client: EngineClient


@dataclass
class Claim:
    base: "Base"
    client: EngineClient

    def release(self) -> None:
        self.base.held -= 1


@dataclass
class Base:
    """The backend of a base model, whose engine is replaced by hand."""

    client: EngineClient | None = None
    held: int = 0
    avoided: list[EngineClient | None] = field(default_factory=list)

    @property
    def status(self) -> EngineStatus:
        raise AssertionError("not asked for here")

    def subscribe(self, callback: Callable[[], None]) -> None:
        raise AssertionError("not asked for here")

    async def claim(self, call: Call, timeout_s: float, avoid: EngineClient | None = None) -> Claim:
        assert self.client is not None
        self.avoided.append(avoid)
        self.held += 1
        return Claim(self, self.client)


Start = Callable[[], Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[Process] = []

    async def one() -> Process:
        engine = FakeEngine(Knobs(model="fake", lora_rank_max=8, order_ms=5))
        path = tmp_path / f"{len(running)}.sock"
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: FakeProtocol(engine), str(path))
        running.append(Process(engine, server, EngineClient(path)))
        return running[-1]

    yield one
    for process in running:
        await process.client.close()
        process.server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "a", {"layers.0.q": (2, 2)})


async def test_every_new_process_learns_it_once(start: Start, folder: Path) -> None:
    first, second = await start(), await start()
    base = Base(first.client)
    backend = Adapted(base, "fake:a@1", folder)
    claims = await asyncio.gather(*(backend.claim(CALL, 1.0) for _ in range(8)))
    assert first.engine.adapters.paths == {"fake:a@1": str(folder)}
    assert {claim.client for claim in claims} == {first.client}
    assert base.held == 8
    # The engine died and another took its place.
    base.client = second.client
    await backend.claim(CALL, 1.0, avoid=first.client)
    assert second.engine.adapters.paths == {"fake:a@1": str(folder)}
    assert base.avoided[-1] is first.client


async def test_one_that_is_loaded_already_is_fine(start: Start, folder: Path) -> None:
    process = await start()
    base = Base(process.client)
    for _ in range(2):  # as after a rescan that made a new backend of it
        claim = await Adapted(base, "fake:a@1", folder).claim(CALL, 1.0)
        assert claim.client is process.client
        claim.release()
    assert process.engine.adapters.paths == {"fake:a@1": str(folder)}
    assert base.held == 0


async def test_a_refusal_is_told_and_nothing_stays_claimed(start: Start, tmp_path: Path) -> None:
    process = await start()
    base = Base(process.client)
    big = write_adapter(tmp_path / "big", {"layers.0.q": (2, 2)}, rank=16)
    backend = Adapted(base, "fake:big@1", big)
    with pytest.raises(AdapterRefused, match="fake:a could not be loaded"):
        await backend.claim(CALL, 1.0)
    assert base.held == 0
    assert process.engine.adapters.paths == {}


async def test_an_engine_that_dies_while_it_learns_is_replaced(start: Start, folder: Path) -> None:
    gone, alive = await start(), await start()
    gone.server.close()
    base = Base(gone.client)

    class Replaced(Base):
        async def claim(
            self, call: Call, timeout_s: float, avoid: EngineClient | None = None
        ) -> Claim:
            base.client = alive.client if avoid is gone.client else gone.client
            return await base.claim(call, timeout_s, avoid)

    claim = await Adapted(Replaced(), "fake:a@1", folder).claim(CALL, 1.0)
    assert claim.client is alive.client
    assert base.held == 1
    alive.server.close()
    (folder.parent / "1.sock").unlink()
    dead = await start()
    dead.server.close()
    (folder.parent / "2.sock").unlink()
    with pytest.raises(EngineUnavailable):
        await Adapted(Base(dead.client), "fake:a@1", folder).claim(CALL, 1.0)


async def test_it_answers_under_its_name_only_where_it_was_loaded(
    start: Start, folder: Path
) -> None:
    process = await start()
    body = {"model": "fake:a@1", "prompt": "hi", "max_tokens": 1}
    connection = await process.client.post("/v1/completions", orjson.dumps(body))
    assert connection.status == 404
    await connection.read()
    process.client.release(connection)
    await Adapted(Base(process.client), "fake:a@1", folder).claim(CALL, 1.0)
    connection = await process.client.post("/v1/completions", orjson.dumps(body))
    assert connection.status == 200
    await connection.read()
    process.client.release(connection)


def test_another_content_is_another_name() -> None:
    one, other = (engine_name("m:a", f"sha256:{digit * 64}") for digit in "12")
    assert one == "m:a@111111111111"
    assert one != other
