"""The private socket: whose it is, what it replaces, and how it goes."""

import os
import socket
import stat
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from serve.api.admin import listener
from serve.api.admin.listener import Listener, bind, peer_uid
from serve.core.errors import SetupError


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/here")
    async def here() -> dict[str, bool]:
        return {"here": True}

    return app


async def ask(path: Path) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get("/here")


async def test_it_serves_its_own_user_and_leaves_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin.sock"
    door = Listener(application(), path)
    door.open()
    try:
        assert (await ask(path)).json() == {"here": True}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        await door.close()
    assert not path.exists()


async def test_another_user_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "admin.sock"
    door = Listener(application(), path)
    door.open()
    try:
        monkeypatch.setattr(listener, "peer_uid", lambda _: os.geteuid() + 1)
        with pytest.raises(httpx.TransportError):
            await ask(path)
    finally:
        await door.close()


def test_the_kernel_names_the_peer() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert peer_uid(here) == os.geteuid()


def test_what_a_dead_server_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    bind(path).close()
    assert path.is_socket()
    bind(path).close()


def test_a_living_server_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with bind(path) as living:
        living.listen()
        with pytest.raises(SetupError, match="another server listens"):
            bind(path)


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("mine")
    with pytest.raises(SetupError, match="is not a socket"):
        bind(path)
    assert path.read_text() == "mine"


def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"admin\.socket: .* longer than the 107 bytes"):
        bind(tmp_path / ("a" * 100) / "admin.sock")
