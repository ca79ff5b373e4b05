import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.load.cpu import cpu_s, tree
from benchmarks.load.http import (
    CountingReader,
    TokenReader,
    UsageReader,
    ask,
    perform,
    post,
)
from benchmarks.load.loops import ClosedLoop, TooManyFailures, bursts, paced

REQUEST = post("/v1/chat/completions", {"stream": True})
FIRST = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
END = b'data: {"choices":[],"usage":{"completion_tokens":1}}\n\ndata: [DONE]\n\n'
DELAY_S = 0.02


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def server(status: int = 200) -> AsyncIterator[tuple[str, int]]:
    """Streams one token after DELAY_S, over connections that are kept."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(len(REQUEST.split(b"\r\n\r\n", 1)[1]))
                writer.write(b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n" % status)
                writer.write(chunk(FIRST))
                await asyncio.sleep(DELAY_S)
                # cut inside an event, as a gateway may
                writer.write(chunk(TOKEN[:20]) + chunk(TOKEN[20:] + END) + b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[:2]


async def test_first_token_is_not_the_role_chunk() -> None:
    async with server() as address:
        exchange = await perform(address, REQUEST, TokenReader(), 5)
    assert exchange.first_token_s is not None
    assert exchange.first_token_s - exchange.sent_s >= DELAY_S * 0.9
    assert (exchange.status, exchange.events, exchange.failed) == (200, 4, False)


async def test_tokens_come_from_the_usage_chunk() -> None:
    reader = UsageReader()
    async with server() as address:
        await perform(address, REQUEST, reader, 5)
    assert reader.completion_tokens == 1


async def test_ask_gives_the_body() -> None:
    async with server() as address:
        assert await ask(address, REQUEST, 5) == (200, FIRST + TOKEN + END)


async def test_closed_loop_counts_what_it_completes() -> None:
    async with server() as address:
        loop = ClosedLoop(address, REQUEST, 4, CountingReader)
        exchanges = await paced(loop, 0.15, 0.01, random.Random(1), 5)
    assert loop.completed == len(exchanges) >= 8
    assert loop.events == 4 * loop.completed
    assert all(one.end_s - one.sent_s >= DELAY_S * 0.9 for one in exchanges)


async def test_window_counts_only_its_own_time() -> None:
    async with server() as address:
        loop = ClosedLoop(address, REQUEST, 2, CountingReader)
        await loop.start()
        await asyncio.sleep(0.1)
        before = loop.completed
        steady = await loop.window(0.1, [lambda: 0.0])
        await loop.stop(5)
    assert before > 0
    assert 0 < steady.completed <= loop.completed - before
    assert steady.cpu_s == (0.0,)


async def test_a_target_that_only_fails_ends_the_run() -> None:
    async with server(status=500) as address:
        loop = ClosedLoop(address, REQUEST, 50, CountingReader)
        await loop.start()
        await asyncio.sleep(0.3)
        with pytest.raises(TooManyFailures):
            await loop.stop(1)
    assert loop.completed == 0


async def test_bursts_begin_together() -> None:
    async with server() as address:
        exchanges = await bursts(
            address, REQUEST, TokenReader, streams=8, seconds=0.05, timeout_s=5,
            pause_s=lambda: 0.0,
        )  # fmt: skip
    assert len(exchanges) % 8 == 0
    first = [one.sent_s for one in exchanges[:8]]
    assert max(first) - min(first) < DELAY_S / 2
    assert all(one.first_token_s is not None for one in exchanges)


async def test_processes_of_a_tree_and_their_time() -> None:
    code = "import subprocess as s, sys; s.run([sys.executable, '-c', sys.argv[1], 'mark' + 'ed'])"
    inner = "import time; time.sleep(30)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, inner)
    try:
        for _ in range(100):
            await asyncio.sleep(0.02)
            if len(tree(process.pid)) == 2:
                break
        assert len(tree(process.pid)) == 2
        assert tree(process.pid, without="marked") == (process.pid,)
        assert cpu_s([os.getpid()]) > 0
    finally:
        for pid in tree(process.pid):
            os.kill(pid, 9)
        await process.wait()
