"""Real servers of tools, on loopback."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]


class McpProcess:
    """An MCP server on a port of its own, which can be ended and begun again."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mcp_server", "http", str(self.port)],
            cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(400):
            try:
                httpx.get(self.url)
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the MCP server does not answer")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def mcp_process() -> Iterator[McpProcess]:
    running = McpProcess()
    yield running
    running.stop()


class Functions(BaseHTTPRequestHandler):
    """Functions over HTTP, and what they were asked."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, Any]]

    def _answer(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        said = {
            "method": self.command, "path": self.path, "body": self.rfile.read(size).decode(),
            "key": self.headers.get("x-key"), "port": self.client_address[1],
        }  # fmt: skip
        type(self).asked.append(said)
        where = self.path.partition("?")[0]
        if where == "/slow":
            time.sleep(1)
        status = {"/missing": 404, "/moved": 302}.get(where, 200)
        body = b"y" * 100_000 if where == "/big" else json.dumps({"at": where}).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/elsewhere")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - what the library calls

    def log_message(self, *_: Any) -> None:
        """Not to the tests' output."""


class Quiet(ThreadingHTTPServer):
    """A client that reads no further is no error."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Not to the tests' output."""


class FunctionServer:
    """Where these functions are."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        handler = type("Handler", (Functions,), {"asked": self.asked})
        self._server = Quiet(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def functions() -> Iterator[FunctionServer]:
    running = FunctionServer()
    yield running
    running.stop()
