"""The public door while a composed site serves: from its socket to the end of the last request.

Start: engines begin loading → the door opens (not ready) → ready. Stop: the door refuses new
work → streams finish, or end with a typed error at the deadline → engines stop → process ends.
"""

import asyncio
import gc
import logging
import signal
import socket
from typing import Final

from serve.api.admin.listener import Listener
from serve.api.cork import CorkedProtocol
from serve.api.embedded import EmbeddedServer
from serve.core.errors import SetupError
from serve.release.apply import Release
from serve.release.watch import Watch
from serve.server import Server

log = logging.getLogger("inhouse")

CONNECTIONS_BACKLOG: Final = 2048
GARBAGE_YOUNG: Final = 20_000
"""Objects made and not yet gone after which the garbage collector looks at the young ones."""
STOP_TIMEOUT_S: Final = 5
"""For connections, once no request is left."""


async def run(server: Server, on_ready: "asyncio.Event | None" = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the draining."""
    listen = server.site.listen
    door = EmbeddedServer(
        server.asgi,
        CorkedProtocol,
        backlog=CONNECTIONS_BACKLOG,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        ws="websockets-sansio",
        ws_max_size=int(server.site.limits.body_mib * 2**20),
    )
    sock = _bind(listen.host, listen.port)
    try:
        admin = Listener(server.desk.app, server.site.admin.socket)
    except SetupError:
        sock.close()
        raise
    stopping = _on_signals()
    keeping_up = asyncio.create_task(_keep_up(server.release))
    serving = asyncio.create_task(door.serve(sockets=[sock]))
    try:
        admin.open()
        await server.start()
        _settle_heap()
        if on_ready is not None:
            on_ready.set()
        await asyncio.wait(
            {serving, asyncio.create_task(stopping[0].wait())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not serving.done():
            await _drain(server, stopping[1])
    finally:
        door.should_exit = True
        keeping_up.cancel()
        await serving
        await server.desk.close()
        await server.stop()
        await admin.close()
        log.info("stopped")


def _settle_heap() -> None:
    """What has been made by now stays: the garbage collector looks at requests only, and seldom.

    It takes a tenth of a request's time otherwise, most of it to find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_YOUNG, *gc.get_threshold()[1:])


async def _keep_up(release: Release | None) -> None:
    """Apply the site file at SIGHUP, and when it changes where `reload.watch` says so."""
    if release is None:
        return
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)

    def every_s() -> float | None:
        reload = release.site.reload
        return reload.watch_every_s if reload.watch else None

    watching = asyncio.create_task(Watch(release.files, every_s, release.keep_up).run())
    proving = asyncio.create_task(release.prove())
    try:
        while True:
            await hangup.wait()
            hangup.clear()
            await release.keep_up()
    finally:
        watching.cancel()
        proving.cancel()


async def _drain(server: Server, again: asyncio.Event) -> None:
    log.info("draining", extra={"in_hand": server.pipeline.gate.in_hand})
    draining = asyncio.create_task(server.drain())
    hurried = asyncio.create_task(again.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not draining.done():
        await server.pipeline.finish(0)
    await draining


def _on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events of the first and of the second SIGTERM or SIGINT."""
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return first, second


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise SetupError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it, or set "
            "another listen.port in the site file"
        ) from None
    return sock
