"""The command line's own client: every way in which nobody answers is one line."""

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from serve.cli import client as client_module
from serve.cli.client import NO_SERVER, AdminClient
from serve.core.errors import RequestError

Answer = Callable[["Handler"], None]


class UnixServer(socketserver.ThreadingUnixStreamServer):
    answer: Answer
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    server: UnixServer
    body: bytes

    def do_GET(self) -> None:
        # A socket that is closed over an unread body resets what was answered.
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.answer(self)

    do_POST = do_GET  # noqa: N815 - http.server's names

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        del format, args


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UnixServer]:
    with UnixServer(str(tmp_path / "admin.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def said(status: int, body: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture
def client(tmp_path: Path) -> AdminClient:
    return AdminClient(tmp_path / "admin.sock")


def test_an_answer_is_read(server: UnixServer, client: AdminClient) -> None:
    server.answer = said(200, b'{"a": 1}')
    assert client.get("/admin/v1/models") == {"a": 1}
    assert client.post("/admin/v1/models/m/load") == {"a": 1}


def test_what_is_sent_arrives(server: UnixServer, client: AdminClient) -> None:
    def echo(handler: Handler) -> None:
        sent = json.loads(handler.body)
        said(200, json.dumps({"sent": sent, "to": handler.path}).encode())(handler)

    server.answer = echo
    told = client.post("/admin/v1/plan", {"site_file": "/a b"})
    assert told == {"sent": {"site_file": "/a b"}, "to": "/admin/v1/plan"}


def test_a_refusal_keeps_its_words(server: UnixServer, client: AdminClient) -> None:
    error = {"message": "no such model", "param": "model", "code": "model_not_found"}
    server.answer = said(404, json.dumps({"error": error}).encode())
    with pytest.raises(RequestError, match="no such model") as raised:
        client.get("/x")
    assert (raised.value.param, raised.value.code) == ("model", "model_not_found")


def test_a_refusal_in_no_known_shape(server: UnixServer, client: AdminClient) -> None:
    server.answer = said(500, b"<html>")
    with pytest.raises(RequestError, match="without a reason"):
        client.get("/x")


def test_events_come_one_by_one(server: UnixServer, client: AdminClient) -> None:
    go = threading.Event()

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'{"step": 1}\n')
        handler.wfile.flush()
        go.wait(10)
        handler.wfile.write(b'\n{"step": 2}\n')

    server.answer = answer
    events = client.events("/x", {})
    assert next(events) == {"step": 1}
    go.set()
    assert list(events) == [{"step": 2}]


def test_an_answer_cut_short(server: UnixServer, client: AdminClient) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "100")
        handler.end_headers()
        handler.wfile.write(b'{"a"')

    server.answer = answer
    with pytest.raises(RequestError, match="the server ended its answer"):
        client.get("/x")


def test_a_server_that_hangs(
    server: UnixServer, client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()

    def answer(handler: Handler) -> None:
        del handler
        stop.wait(10)

    server.answer = answer
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT_S", 0.05)
    with pytest.raises(RequestError, match="did not answer in time"):
        client.get("/x")
    stop.set()


def test_nobody_there(client: AdminClient) -> None:
    with pytest.raises(RequestError, match="no server runs there") as raised:
        client.get("/x")
    assert raised.value.code == NO_SERVER


def test_a_dead_servers_socket(client: AdminClient) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(client.path))
    with pytest.raises(RequestError, match="no server runs there"):
        client.get("/x")
