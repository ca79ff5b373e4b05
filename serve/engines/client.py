"""HTTP/1.1 to an engine, mostly over its Unix socket: pooled, streaming, cancelled by closing.

A general HTTP client spends more CPU on one request than this whole gateway may (see
`benchmarks/gateway.py`), so this one does only what an engine needs: one request a
connection at a time, bodies by length or chunked, and a bound on what it buffers.
Closing the connection is how an engine is told that nobody waits for the answer any more.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import httptools
import orjson

from serve.core.errors import EngineError, EngineUnavailable
from serve.engines.turns import Turns

BUFFER_MAX_BYTES: Final = 256 * 1024
"""Bytes of one answer held for a slow consumer before reading from the engine pauses."""

BODY_MAX_BYTES: Final = 64 * 1024 * 1024
"""Largest unstreamed answer; an engine that sends more has gone wrong."""

IDLE_MAX_S: Final = 3.0
"""Reuse bound of a connection: under uvicorn's keep-alive of 5 s, so that we close first."""

ENGINE_KEEP_ALIVE_S: Final = 600
"""How long our own engines keep an idle connection: a new one would delay a first token."""

ENGINE_IDLE_MAX_S: Final = 300.0
"""Reuse bound of a connection to one of them."""

CONNECT_TIMEOUT_S: Final = 5.0
HEALTH_TIMEOUT_S: Final = 5.0
CORE_IS_DEAD: Final = 503
"""What vLLM's health route says then."""

VANISHED_S: Final = 20
"""Within which a machine elsewhere that is gone without a word is noticed, in the middle of an
answer too: its kernel acknowledges nothing any more."""

KEEPALIVE_PROBES: Final = 3


class ConnectionLost(EngineError):
    """The engine closed the connection; `answered` says whether any byte had come back."""

    code = "engine_connection_lost"

    def __init__(self, message: str, *, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered


class EngineSilent(EngineUnavailable):
    """The engine has been given its time and has said nothing."""


class ProbeRefused(EngineError):
    """An engine was asked for one token and answered with something else."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Origin:
    """A server over TCP; `tls` is None for plain HTTP.

    `authority` is its name as it shall read it, `prefix` comes before each path, and `headers`,
    which hold its key, go with each request.
    """

    host: str
    port: int
    authority: str
    prefix: str = ""
    tls: ssl.SSLContext | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    idle_max_s: float = IDLE_MAX_S


_ENGINE: Final = Origin("", 0, "engine", idle_max_s=ENGINE_IDLE_MAX_S)


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


class EngineClient:
    """Requests to one engine process; belongs to one generation of it."""

    def __init__(self, address: Path | Origin) -> None:
        self.address = address
        origin = address if isinstance(address, Origin) else _ENGINE
        self._prefix = origin.prefix
        self._idle_max_s = origin.idle_max_s
        self._headers = (
            f" HTTP/1.1\r\nhost: {origin.authority}\r\ncontent-type: application/json\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in origin.headers)
        )
        self._idle: list[Connection] = []
        self._live: set[Connection] = set()
        self._tally = Tally()
        self._turns = Turns()
        self._closed = False
        self.dying = False
        """It has said, or shown, that its core is dead: its process is about to end."""

    async def is_dying(self) -> bool:
        """Whether an error that it has just answered with is the death of its core.

        vLLM's server outlives its core by a second or two and refuses everything then.
        """
        if not self.dying:
            try:
                status, _ = await self.get("/health", HEALTH_TIMEOUT_S)
                self.dying = status == CORE_IS_DEAD
            except TimeoutError:
                return False
            except EngineError:
                self.dying = True
        return self.dying

    @property
    def received(self) -> int:
        """Pieces of answers that have come so far; grows with every step of a streaming engine."""
        return self._tally.received

    @property
    def waiting(self) -> int:
        """Requests for work that have not been answered to their end."""
        return sum(connection.works for connection in self._live)

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Connection:
        """Send and wait for status and headers. The caller releases or aborts the result.

        Raises EngineUnavailable when the engine cannot be reached and ConnectionLost when it
        goes away before it answers.
        """
        return await self._exchange("POST", path, body, headers)

    async def get(self, path: str, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of a small GET, within `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            connection = await self._exchange("GET", path, b"", None)
            try:
                return connection.status, await connection.read()
            finally:
                self.release(connection)

    async def probe_ready(self, model: str, task: str, timeout_s: float) -> None:
        """Ask for one real token (or one embedding): the only proof that a model works.

        Raises EngineError with what the engine said, or why it could not be asked.
        """
        body: dict[str, object]
        if task == "embed":
            path, body = "/v1/embeddings", {"model": model, "input": "ready?"}
        else:
            path = "/v1/completions"
            body = {"model": model, "prompt": "ready?", "max_tokens": 1, "temperature": 0}
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self.post(path, orjson.dumps(body))
                try:
                    answer = await connection.read()
                finally:
                    self.release(connection)
        except TimeoutError:
            raise EngineSilent(f"no answer to a one-token request in {timeout_s:g} s") from None
        if connection.status != 200:
            raise ProbeRefused(
                f"a one-token request was answered {connection.status}: {answer[:300]!r}",
                status=connection.status,
            )

    def release(self, connection: Connection) -> None:
        """Take back a connection from `post`, for reuse where its answer was read whole."""
        self._live.discard(connection)
        if self._closed:
            connection.abort()
        else:
            connection.release()

    def retire(self) -> None:
        """Begin no exchange any more; those in flight go on to their end."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def close(self) -> None:
        """Close every connection; exchanges in flight end with ConnectionLost."""
        self._closed = True
        for connection in (*self._idle, *self._live):
            connection.abort()
        self._idle.clear()
        self._live.clear()

    async def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None
    ) -> Connection:
        extra = "".join(f"{k}: {v}\r\n" for k, v in headers.items()) if headers else ""
        head = (
            f"{method} {self._prefix}{path}{self._headers}"
            f"{extra}content-length: {len(body)}\r\n\r\n"
        ).encode("latin-1")
        while True:
            pooled = self._pooled()
            connection = pooled or await self._connect()
            self._live.add(connection)
            connection.works = method == "POST"
            connection.send(head, body)
            try:
                await connection.response_head()
            except ConnectionLost as lost:
                self._drop(connection)
                # The engine may close a kept connection just as we write on it; it has then
                # not seen the request, which a new connection may carry.
                if pooled is not None and not lost.answered and not self._closed:
                    continue
                raise
            except BaseException:
                self._drop(connection)
                raise
            return connection

    def _pooled(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable(self._idle_max_s):
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        if self._closed:
            raise EngineUnavailable("the model's process is being replaced")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._open()
        except TimeoutError:
            raise EngineSilent(
                f"the model's process cannot be reached: no connection in {CONNECT_TIMEOUT_S:g} s"
            ) from None
        except OSError as error:  # of TLS too
            why = _in_words(error)
        raise EngineUnavailable(f"the model's process cannot be reached: {why}")

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        address = self.address

        def protocol() -> Connection:
            return Connection(self._idle, self._tally, self._turns)

        if isinstance(address, Origin):
            transport, connection = await loop.create_connection(
                protocol, address.host, address.port, ssl=address.tls
            )
            _keep_alive(transport.get_extra_info("socket"))
        else:
            _, connection = await loop.create_unix_connection(protocol, str(address))
        return connection

    def _drop(self, connection: Connection) -> None:
        self._live.discard(connection)
        connection.abort()


def _keep_alive(connection: socket.socket) -> None:
    """Have the kernel notice within VANISHED_S that the other machine is gone."""
    each_s = VANISHED_S // (KEEPALIVE_PROBES + 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, each_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, each_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_S * 1000)


def _in_words(error: OSError) -> str:
    """Why a connection failed, without the address: clients read it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails ({error.reason})"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    # asyncio joins the errors of several addresses into one without a number.
    return os.strerror(error.errno) if error.errno else "none of its addresses answers"
