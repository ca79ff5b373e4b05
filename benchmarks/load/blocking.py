"""One connection for callers that wait, such as Locust's users: gevent lets others run meanwhile.

The same parser and the same reader as the open loop's; bytes are read from the socket itself, as
they come, for a buffer between would hold tokens back.
"""

import asyncio
import socket
import time
from typing import Final, Literal, cast

from benchmarks.load.flight import Flight, WatchedConnection, land
from benchmarks.load.http import Connection
from benchmarks.load.openloop import IDLE_MAX_S, words
from benchmarks.load.target import Target

READ_MAX_BYTES: Final = 65_536


class SocketTransport:
    """What a connection needs of a transport, over a plain socket."""

    def __init__(self, there: socket.socket) -> None:
        self._socket = there

    def write(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def abort(self) -> None:
        """Close it."""
        self._socket.close()


class BlockingConnection:
    """Requests in turn, each until its end; opened when it is needed, and kept."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._connection: WatchedConnection | None = None
        self.opened = 0

    def fly(self, flight: Flight, data: bytes) -> None:
        """Send a request and read its answer to the end; what went wrong is in the flight."""
        deadline_s = time.perf_counter() + self._timeout_s
        try:
            connection, there = self._ready()
            connection.take_off(flight, data)
            while connection.flight is not None:
                there.settimeout(max(0.001, deadline_s - time.perf_counter()))
                received = there.recv(READ_MAX_BYTES)
                if received:
                    connection.data_received(received)
                if not received or (connection.flight is not None and there.fileno() < 0):
                    connection.connection_lost(None)
        except TimeoutError:
            self._lose(flight, "timeout", f"no end within {self._timeout_s:g} s")
        except OSError as error:
            self._lose(flight, "unreachable" if flight.sent_s is None else "cut", words(error))
        if self._connection is not None and not self._connection.kept_alive:
            self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._connection = None

    def _ready(self) -> tuple[WatchedConnection, socket.socket]:
        old = self._connection
        if old is not None and time.perf_counter() - old.idle_since_s > IDLE_MAX_S:
            self.close()
        if self._connection is None or self._socket is None:
            assert isinstance(self._target.address, tuple)
            there = socket.create_connection(self._target.address, self._timeout_s)
            there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._target.tls is not None:
                there = self._target.tls.wrap_socket(there, server_hostname=self._target.address[0])
            self._socket = there
            self._connection = WatchedConnection(_landed)
            self._connection.connection_made(cast(asyncio.BaseTransport, SocketTransport(there)))
            self.opened += 1
        return self._connection, self._socket

    def _lose(
        self, flight: Flight, why: Literal["timeout", "unreachable", "cut"], detail: str
    ) -> None:
        flight.lost, flight.detail = why, detail
        if self._connection is not None and self._connection.exchange is not None:
            flight.status = self._connection.exchange.status
        flight.end_s = time.perf_counter()
        self.close()


def _landed(connection: Connection) -> None:
    assert isinstance(connection, WatchedConnection)
    land(connection)
