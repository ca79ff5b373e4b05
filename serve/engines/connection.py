"""One connection to an engine: HTTP/1.1, one exchange at a time, a bound on what is buffered."""

import asyncio
import time
from typing import Final, cast

import httptools

from serve.core.errors import EngineError
from serve.engines.turns import Turns

BUFFER_MAX_BYTES: Final = 256 * 1024
"""Bytes of one answer held for a slow consumer before reading from the engine pauses."""

BODY_MAX_BYTES: Final = 64 * 1024 * 1024
"""Largest unstreamed answer; an engine that sends more has gone wrong."""


class ConnectionLost(EngineError):
    """The engine closed the connection; `answered` says whether any byte had come back."""

    code = "engine_connection_lost"

    def __init__(self, message: str, *, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered


class Tally:
    """Pieces of good answers to POST requests that came over all connections of one client."""

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = 0


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time; parses with llhttp."""

    def __init__(self, pool: list["Connection"], tally: "Tally", turns: Turns) -> None:
        self._pool = pool
        self._turns = turns
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._buffered_bytes = 0
        self._paused = False
        self._closed = False
        self._done = True
        self._received = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.idle_since_s = 0.0
        self.later = False
        """The answer's first token has been relayed: others' first tokens go before the rest."""
        self._in_turn = False
        self.works = False
        """The exchange is work for the model, not a look at its counters."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received = True
        if self._parser is None:  # bytes that answer nothing: out of step, never reuse
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._wake()

    # llhttp callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        self._wake()

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._buffered_bytes += len(body)
        if self.works and self.status == 200:
            self._tally.received += 1
        if self._buffered_bytes > BUFFER_MAX_BYTES and not self._paused and self._transport:
            self._transport.pause_reading()
            self._paused = True
        if not self.later:
            self._wake()
        elif not self._in_turn and self._waiter is not None and not self._waiter.done():
            self._in_turn = True
            self._turns.wait(self)

    def on_message_complete(self) -> None:
        self._done = True
        if not self._in_turn:
            self._wake()

    # serve.engines.turns.Waiting

    @property
    def buffered_bytes(self) -> int:
        return self._buffered_bytes

    def resume(self) -> None:
        self._in_turn = False
        self._wake()

    # the exchange

    def reusable(self, idle_max_s: float) -> bool:
        """Whether the other side still keeps it, as far as can be known."""
        return not self._closed and time.monotonic() - self.idle_since_s < idle_max_s

    def send(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._chunks.clear()
        self._buffered_bytes = 0
        self._done = self._received = self.later = False
        self.status = 0
        self.headers = {}
        self._transport.write(head + body)

    async def response_head(self) -> None:
        """Wait for status and headers."""
        while not self.status:
            if self._closed:
                raise self._lost()
            await self._wait()

    async def next_bytes(self) -> bytes:
        """What has arrived since the last call, joined; empty at the end of the answer.

        Raises ConnectionLost when the engine goes away before the answer's end.
        """
        while not self._chunks:
            if self._done:
                return b""
            if self._closed:
                raise self._lost()
            await self._wait()
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered_bytes = 0
        if self._paused and self._transport:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def read(self) -> bytes:
        """The whole answer."""
        parts: list[bytes] = []
        size = 0
        while data := await self.next_bytes():
            parts.append(data)
            size += len(data)
            if size > BODY_MAX_BYTES:
                self.abort()
                raise EngineError("the engine's answer is larger than any answer can be")
        return b"".join(parts)

    def release(self) -> None:
        """Give the connection back; one whose answer was not read to its end is closed."""
        reuse = (
            self._done
            and not self._closed
            and not self._chunks
            and self.headers.get(b"connection", b"").lower() != b"close"
        )
        if reuse:
            self.idle_since_s = time.monotonic()
            self._parser = None
            self._pool.append(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once; the engine stops generating for this exchange."""
        if self._transport is not None and not self._closed:
            self._transport.abort()
        self._closed = True
        self._wake()

    def _lost(self) -> ConnectionLost:
        return ConnectionLost(
            "the model's process closed the connection before it had answered",
            answered=self._received,
        )

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
