"""The one place where errors become HTTP (OpenAI API reference, error codes).

Every answer that is not 2xx is `{"error": {"message", "type", "param", "code"}}`.
"""

import logging
from collections.abc import Mapping
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.core import errors
from serve.core.errors import RequestError

log = logging.getLogger("inhouse.api")

STATUS: Final[tuple[tuple[type[RequestError], int, str], ...]] = (
    # Most specific first: the first class that fits decides.
    (errors.PayloadTooLarge, 413, "invalid_request_error"),
    (errors.InvalidRequest, 400, "invalid_request_error"),
    (errors.Unauthenticated, 401, "authentication_error"),
    (errors.PermissionDenied, 403, "permission_error"),
    (errors.NotFound, 404, "invalid_request_error"),
    (errors.MethodNotAllowed, 405, "invalid_request_error"),
    (errors.Conflict, 409, "invalid_request_error"),
    (errors.Draining, 503, "server_error"),
    (errors.Overloaded, 429, "rate_limit_error"),
    (errors.StorageUnavailable, 503, "server_error"),
    (errors.EngineUnavailable, 503, "server_error"),
    (errors.EngineError, 500, "server_error"),
    (errors.RequestError, 500, "server_error"),
)


def status_of(error: RequestError) -> tuple[int, str]:
    """HTTP status and OpenAI error type."""
    return next((status, kind) for cls, status, kind in STATUS if isinstance(error, cls))


def body_of(error: RequestError) -> bytes:
    """The error object, for a response or for a frame in a stream that had begun."""
    _, kind = status_of(error)
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": kind,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def headers_of(error: RequestError) -> Mapping[str, str]:
    """Headers that tell a client what to do next; `x-should-retry` is read by OpenAI's SDKs."""
    status, _ = status_of(error)
    headers = {"x-should-retry": "true" if status in (429, 500, 503) else "false"}
    if isinstance(error, errors.Overloaded | errors.EngineUnavailable | errors.StorageUnavailable):
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, errors.MethodNotAllowed):
        headers["allow"] = error.allow
    if isinstance(error, errors.Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return headers


def response_of(error: RequestError) -> Response:
    return Response(
        body_of(error), status_of(error)[0], headers_of(error), media_type="application/json"
    )


class Guard:
    """An ASGI application whose errors become responses, without the framework around it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except RequestError as error:
            await response_of(error)(scope, receive, send)
        except Exception:
            log.exception("a request failed")
            await response_of(internal())(scope, receive, send)


def internal() -> RequestError:
    """A bug of ours, in words fit for a client."""
    return RequestError("this server failed on the request; its log says why", code="internal")


def install(app: FastAPI) -> None:
    """Make every way an answer can fail end in the one shape."""

    async def on_request_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return response_of(error)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return response_of(_of_framework(request, error))

    async def on_bug(request: Request, error: Exception) -> Response:
        # Logged with its traceback by the server; the client learns only that it was us.
        return response_of(internal())

    app.add_exception_handler(RequestError, on_request_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_bug)


def _of_framework(request: Request, error: HTTPException) -> RequestError:
    path, method = request.url.path, request.method
    if error.status_code == 404:
        return errors.NotFound(f"Unknown address: {method} {path}", code="unknown_url")
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "POST")
        return errors.MethodNotAllowed(f"{path} takes {allow}, not {method}.", allow=allow)
    return errors.InvalidRequest(str(error.detail))
