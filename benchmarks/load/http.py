"""HTTP/1.1 for load: one exchange a connection at a time, parsed by llhttp, driven by callbacks.

A general client spends more CPU on a request than the gateways measured here; then the client
is what is measured.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast

import httptools
import orjson

from benchmarks.load.sse import Counter, Splitter, token_text, usage_of

C = TypeVar("C", bound=asyncio.BaseProtocol)

Address = tuple[str, int] | Path
"""Host and port, or the path of a Unix socket."""


@dataclass(slots=True)
class Exchange:
    """One request and what came of it; times are of the monotonic clock, in seconds."""

    sent_s: float
    status: int = 0
    first_token_s: float | None = None
    end_s: float = 0.0
    events: int = 0
    failed: bool = False


class Reader(Protocol):
    """Takes the bytes of one answer's body; returns how many events they completed."""

    def feed(self, body: bytes, exchange: Exchange, now_s: float) -> int: ...


class WholeReader:
    """Keeps the body; for checks and unstreamed answers."""

    __slots__ = ("body",)

    def __init__(self) -> None:
        self.body = b""

    def feed(self, body: bytes, exchange: Exchange, now_s: float) -> int:
        self.body += body
        return 0


class CountingReader:
    """Counts events and looks at nothing else."""

    __slots__ = ("_counter",)

    def __init__(self) -> None:
        self._counter = Counter()

    def feed(self, body: bytes, exchange: Exchange, now_s: float) -> int:
        return self._counter.feed(body)


class TokenReader:
    """Notes when the first token came, then only counts."""

    __slots__ = ("_counter", "_splitter")

    def __init__(self) -> None:
        self._splitter: Splitter | None = Splitter()
        self._counter = Counter()

    def feed(self, body: bytes, exchange: Exchange, now_s: float) -> int:
        if self._splitter is not None:
            for payload in self._splitter.feed(body):
                if token_text(payload) is not None:
                    exchange.first_token_s = now_s
                    self._splitter = None
                    break
        return self._counter.feed(body)


class UsageReader:
    """Notes when the first token came and how many tokens the engine says there were."""

    __slots__ = ("_splitter", "completion_tokens")

    def __init__(self) -> None:
        self._splitter = Splitter()
        self.completion_tokens: int | None = None

    def feed(self, body: bytes, exchange: Exchange, now_s: float) -> int:
        payloads = self._splitter.feed(body)
        for payload in payloads:
            if exchange.first_token_s is None and token_text(payload) is not None:
                exchange.first_token_s = now_s
            if usage := usage_of(payload):
                self.completion_tokens = int(usage["completion_tokens"])
        return len(payloads)


class Connection(asyncio.Protocol):
    """One connection. `on_end` is called at each exchange's end, also when it failed."""

    def __init__(self, on_end: Callable[["Connection"], None]) -> None:
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reader: Reader | None = None
        self._now_s = 0.0
        self.exchange: Exchange | None = None
        self.events = 0

    @property
    def closed(self) -> bool:
        return self._transport is None

    def send(self, request: bytes, reader: Reader) -> None:
        """Begin an exchange; the one before must have ended."""
        assert self._transport is not None
        self._reader = reader
        self.exchange = Exchange(sent_s=time.perf_counter())
        self._transport.write(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._now_s = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.exchange is not None:
            self._end(failed=True)

    def on_body(self, body: bytes) -> None:
        exchange = self.exchange
        if exchange is not None and self._reader is not None:
            found = self._reader.feed(body, exchange, self._now_s)
            exchange.events += found
            self.events += found

    def on_message_complete(self) -> None:
        if self.exchange is not None:
            self.exchange.status = self._parser.get_status_code()
            self._end(failed=self.exchange.status != 200)

    def _end(self, *, failed: bool) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.end_s = time.perf_counter()
        exchange.failed = failed
        self._on_end(self)


async def connect(address: Address, on_end: Callable[[Connection], None]) -> Connection:
    """Open one connection; raises OSError where nobody listens."""
    return await opened(address, lambda: Connection(on_end))


async def opened(address: Address, make: Callable[[], C], tls: ssl.SSLContext | None = None) -> C:
    """Open a connection of the kind that `make` makes; raises OSError where nobody listens."""
    loop = asyncio.get_running_loop()
    if isinstance(address, Path):
        _, connection = await loop.create_unix_connection(make, str(address))
    else:
        _, connection = await loop.create_connection(make, *address, ssl=tls)
    return connection


def post(path: str, body: object, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of one POST of JSON."""
    data = orjson.dumps(body)
    lines = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "accept-encoding": "identity",
        "content-length": str(len(data)),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data


async def perform(address: Address, request: bytes, reader: Reader, timeout_s: float) -> Exchange:
    """One exchange on a connection of its own; status 0 if it was lost.

    Raises OSError where nobody listens, TimeoutError past `timeout_s`.
    """
    ended = asyncio.Event()
    async with asyncio.timeout(timeout_s):
        connection = await connect(address, lambda _: ended.set())
        try:
            connection.send(request, reader)
            await ended.wait()
        finally:
            connection.abort()
    assert connection.exchange is not None
    return connection.exchange


async def ask(address: Address, request: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of one exchange, as `perform`."""
    reader = WholeReader()
    exchange = await perform(address, request, reader, timeout_s)
    return exchange.status, reader.body
