"""A client of a running server's admin socket: the standard library's HTTP over a Unix socket."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from serve.core.errors import RequestError

JSON = dict[str, Any]

NO_SERVER: Final = "no_server"

ANSWER_TIMEOUT_S: Final = 30.0
"""Between two bytes of an answer."""
APPLY_TIMEOUT_S: Final = 3600.0
"""Between two events of an apply: a model's load, or its evaluation, may lie between them."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class AdminClient:
    """Asks the server that listens on `path`.

    Its refusals, and that nobody answers there, are raised as RequestError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def answers(self) -> bool:
        """Whether a server listens there."""
        try:
            self.get("/admin/v1/release")
        except RequestError as error:
            return error.code != NO_SERVER
        return True

    def get(self, path: str) -> JSON:
        """The object at `path`."""
        return self._whole("GET", path, None, ANSWER_TIMEOUT_S)

    def post(
        self, path: str, body: JSON | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> JSON:
        """Give an order; the object that answers it."""
        return self._whole("POST", path, body, timeout_s)

    def delete(self, path: str, timeout_s: float = ANSWER_TIMEOUT_S) -> JSON:
        """Remove what is at `path`; what the server says of it."""
        return self._whole("DELETE", path, None, timeout_s)

    def events(self, path: str, body: JSON) -> Iterator[JSON]:
        """Give an order; its progress, an object a line."""
        connection = self._connection(APPLY_TIMEOUT_S)
        try:
            response = self._response(connection, "POST", path, body)
            for line in response:
                if line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost(error) from None
        finally:
            connection.close()

    def _whole(self, method: str, path: str, body: JSON | None, timeout_s: float) -> JSON:
        connection = self._connection(timeout_s)
        try:
            answer: JSON = json.loads(self._response(connection, method, path, body).read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost(error) from None
        finally:
            connection.close()
        return answer

    def _connection(self, timeout_s: float) -> _UnixConnection:
        connection = _UnixConnection(self.path, timeout_s)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from None
        return connection

    def _response(
        self, connection: _UnixConnection, method: str, path: str, body: JSON | None
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status >= 400:
            raise refusal(response.read())
        return response

    def _unreachable(self, error: OSError) -> RequestError:
        match error:
            case FileNotFoundError() | ConnectionRefusedError():
                reason = "no server runs there; start one with `inhouse serve --site FILE`"
            case PermissionError():
                reason = "it belongs to another user; run this command as the server's user"
            case _:
                reason = f"{error.strerror or error}"
        return RequestError(f"{self.path}: {reason}", code=NO_SERVER)

    def _lost(self, error: Exception) -> RequestError:
        what = "did not answer in time" if isinstance(error, TimeoutError) else "ended its answer"
        return RequestError(f"{self.path}: the server {what}; its log says why", code="lost")


def refusal(body: bytes) -> RequestError:
    """The error object of an answer."""
    try:
        error = json.loads(body)["error"]
        return RequestError(str(error["message"]), param=error["param"], code=error["code"])
    except (ValueError, KeyError, TypeError):
        return RequestError("the server refused this without a reason; its log may say why")
