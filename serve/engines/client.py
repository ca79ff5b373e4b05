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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from serve.core.errors import EngineError, EngineUnavailable
from serve.engines.connection import Connection, ConnectionLost, Tally
from serve.engines.turns import Turns

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
    def closed(self) -> bool:
        """Nothing more is asked through it."""
        return self._closed

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
