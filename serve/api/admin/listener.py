"""The private listener: a Unix socket that only this user, and root, can speak to."""

import asyncio
import errno
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.api.embedded import EmbeddedServer
from serve.core.errors import SetupError
from serve.engines.launch import SOCKET_PATH_MAX_BYTES
from serve.engines.process import private_directory

log = logging.getLogger("inhouse.admin")

BACKLOG_CONNECTIONS: Final = 64
KEEP_ALIVE_S: Final = 30
STOP_TIMEOUT_S: Final = 2
_PEER: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""


def bind(path: Path) -> socket.socket:
    """A socket (0600) in a directory of its own user's (0700).

    What a dead server has left at `path` is replaced. Raises SetupError where a living one
    listens there, or where no socket can be.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
        raise SetupError(
            f"admin.socket: {path} is longer than the {SOCKET_PATH_MAX_BYTES} bytes of a "
            "socket's path; set a shorter admin.socket or var_dir"
        )
    private_directory(path.parent)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        sock.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        sock.close()
        raise SetupError(f"admin.socket: cannot listen on {path}: {error.strerror}") from None
    except SetupError:
        sock.close()
        raise
    return sock


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on; anything else at `path` is left alone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SetupError(f"admin.socket: {path} is not a socket; remove it or set another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        refused = probe.connect_ex(str(path))
    if refused in (errno.ECONNREFUSED, errno.ENOENT):
        path.unlink(missing_ok=True)
        return
    raise SetupError(
        f"admin.socket: another server listens on {path}; stop it, or set another var_dir or "
        "admin.socket"
    )


class _Peered(HttpToolsProtocol):
    """HTTP with those alone whom the kernel says to be this user or root."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        uid = peer_uid(transport.get_extra_info("socket"))
        if uid not in (0, os.geteuid()):
            log.warning("a connection to the admin socket was refused", extra={"uid": uid})
            transport.abort()


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end (SO_PEERCRED), -1 where the kernel does not say."""
    try:
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return int(_PEER.unpack(peer)[1])
    except (OSError, struct.error):
        return -1


class Listener(EmbeddedServer):
    """Serves an application on the private socket until `close`."""

    def __init__(self, app: ASGIApp, path: Path) -> None:
        super().__init__(
            app,
            _Peered,
            backlog=BACKLOG_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            ws="none",
        )
        self._path = path
        self._sock = bind(path)
        self._serving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to serve; returns at once."""
        self._serving = asyncio.create_task(self.serve(sockets=[self._sock]), name="admin")

    async def close(self) -> None:
        """Stop serving, and leave no socket behind."""
        self.should_exit = True
        if self._serving is not None:
            await self._serving
        self._sock.close()
        self._path.unlink(missing_ok=True)
