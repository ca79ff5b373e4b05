"""One write to the socket for what is written in one turn of the event loop.

uvicorn writes an answer's head and its first bytes one after the other, and uvloop hands each to
the kernel at once: two system calls, and a client that is woken twice for one first token.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

GATHER_MAX_BYTES: Final = 65_536
"""Written at once from here on: the transport's own flow control begins to count then."""


class Cork:
    """A transport that gathers; all that uvicorn asks of one."""

    __slots__ = ("_gathered", "_loop", "_size_bytes", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: bytes) -> None:
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)
        self._size_bytes += len(data)
        if self._size_bytes >= GATHER_MAX_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        gathered, self._gathered, self._size_bytes = self._gathered, [], 0
        if gathered and not self._transport.is_closing():
            self._transport.write(b"".join(gathered))


class CorkedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, writing through a cork."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as there
        super().connection_made(transport)
        self._bare = transport
        self.transport = Cork(transport, self.loop)  # type: ignore[assignment]  # what it uses of one

    def handle_websocket_upgrade(self) -> None:
        # Nothing has been written yet, and a WebSocket's protocol asks more of a transport.
        self.transport = self._bare
        super().handle_websocket_upgrade()
