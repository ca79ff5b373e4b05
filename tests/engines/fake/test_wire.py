"""The fake engine's orders, adapters and cache, over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from serve.engines.client import EngineClient
from serve.engines.fake import FakeEngine, FakeProtocol, Knobs
from serve.engines.process import SystemEffects

Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(Knobs(model="m", tokens=2, memory_mib=1, block_tokens=4))


@pytest.fixture
async def client(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[EngineClient]:
    path = tmp_path / "engine.sock"
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: FakeProtocol(engine), str(path))
    one = EngineClient(path)
    yield one
    await one.close()
    server.close()
    await asyncio.sleep(0.01)


@pytest.fixture
def ask(client: EngineClient) -> Ask:
    async def post(path: str, **body: Any) -> tuple[int, Any]:
        connection = await client.post(path, orjson.dumps(body))
        answer = await connection.read()
        client.release(connection)
        return connection.status, orjson.loads(answer) if answer[:1] in b"{[" else answer.decode()

    return post


async def text_of(ask: Ask) -> str:
    status, answer = await ask("/v1/completions", model="m", prompt="hi")
    assert status == 200
    return str(answer["choices"][0]["text"])


@pytest.mark.parametrize("level", [1, 2])
async def test_sleep_and_wake_as_the_supervisor_orders_them(
    engine: FakeEngine, client: EngineClient, ask: Ask, level: int
) -> None:
    effects = SystemEffects()
    await effects.doze(client, level)
    assert await client.get("/is_sleeping", 5) == (200, b'{"is_sleeping":true}')
    waiting = asyncio.create_task(text_of(ask))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await effects.rouse(client, level)
    assert await waiting == "w0 w1"
    assert await client.get("/is_sleeping", 5) == (200, b'{"is_sleeping":false}')


async def test_woken_from_level_2_without_its_weights_it_answers_nonsense(
    client: EngineClient, ask: Ask
) -> None:
    await SystemEffects().doze(client, 2)
    await SystemEffects().rouse(client, 1)
    assert await text_of(ask) == "! !"


async def test_what_runs_ends_before_the_engine_sleeps(client: EngineClient, ask: Ask) -> None:
    running = asyncio.create_task(ask("/v1/completions", prompt="fake:prefill=0.3"))
    await asyncio.sleep(0.05)
    await SystemEffects().doze(client, 1)
    assert running.done()


async def test_a_prefix_is_cached_in_whole_blocks_of_its_owner(ask: Ask) -> None:
    async def cached(words: str) -> int:
        _, answer = await ask("/v1/completions", prompt=words)
        return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert await cached("a b c d e f g h") == 0
    assert await cached("a b c d e f g h") == 4, "the last token is always computed"
    assert await cached("a b c d e f g h i") == 8
    assert await cached("x b c d e f g h i") == 0, "a block is known by all before it"
    assert await cached("a b c d x f g h i") == 4


async def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    engine = FakeEngine(Knobs(block_tokens=1, cache_blocks=4))
    assert engine.prefix.admit("m", ["a", "b"]) == 0
    assert engine.prefix.admit("m", ["a", "b", "c"]) == 2
    assert engine.prefix.admit("lora", ["a", "b"]) == 0, "another's blocks are others"
    assert engine.prefix.admit("m", ["a", "b"]) == 0


async def test_adapters_are_loaded_asked_and_unloaded(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8}))
    load = {"lora_name": "law", "lora_path": str(tmp_path)}
    assert (await ask("/v1/completions", model="law", prompt="hi"))[0] == 404
    assert await ask("/v1/load_lora_adapter", **load) == (
        200,
        "Success: LoRA adapter 'law' added successfully.",
    )
    assert (await ask("/v1/load_lora_adapter", **load))[0] == 400
    assert (await ask("/v1/load_lora_adapter", **load, load_inplace=True))[0] == 200
    assert (await ask("/v1/completions", model="law", prompt="hi"))[1]["model"] == "law"
    assert (await ask("/v1/unload_lora_adapter", lora_name="law"))[0] == 200
    assert (await ask("/v1/unload_lora_adapter", lora_name="law"))[0] == 404


async def test_adapters_that_do_not_fit_are_refused(ask: Ask, tmp_path: Path) -> None:
    status, answer = await ask(
        "/v1/load_lora_adapter", lora_name="law", lora_path=str(tmp_path / "absent")
    )
    assert (status, answer["error"]["type"]) == (404, "NotFoundError")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 64}))
    status, answer = await ask("/v1/load_lora_adapter", lora_name="law", lora_path=str(tmp_path))
    assert status == 500
    assert answer["error"]["message"] == "LoRA rank 64 is greater than max_lora_rank 16."
    assert (await ask("/v1/load_lora_adapter", lora_name="m", lora_path="p"))[0] == 400


async def test_a_stalled_engine_says_that_it_is_well(client: EngineClient, ask: Ask) -> None:
    asking = asyncio.create_task(ask("/v1/completions", prompt="fake:stall@0"))
    await asyncio.sleep(0.05)
    assert await client.get("/health", 5) == (200, b"")
    before = await client.get("/metrics", 5)
    other = asyncio.create_task(ask("/v1/embeddings", input="hi"))
    await asyncio.sleep(0.05)
    assert not asking.done()
    assert not other.done()
    assert before[0] == 200
    asking.cancel()
    other.cancel()
