"""The one place where errors become HTTP (OpenAI API reference, error codes).

Every answer that is not 2xx is `{"error": {"message", "type", "param", "code"}}`; at and below
`/v1/messages` it has Anthropic's shape and types instead (Claude API reference, errors).
"""

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.body import ClientGone
from serve.api.envelope import ANTHROPIC_PATH, REQUEST_ID, is_anthropic
from serve.core import errors
from serve.core.errors import RequestError

log = logging.getLogger("inhouse.api")

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's, as it stands in logs."""

STATUS: Final[tuple[tuple[type[RequestError], int, str], ...]] = (
    # Most specific first: the first class that fits decides.
    (errors.PayloadTooLarge, 413, "invalid_request_error"),
    (errors.InvalidRequest, 400, "invalid_request_error"),
    (errors.Unauthenticated, 401, "authentication_error"),
    (errors.PermissionDenied, 403, "permission_error"),
    (errors.NotFound, 404, "invalid_request_error"),
    (errors.MethodNotAllowed, 405, "invalid_request_error"),
    (errors.Conflict, 409, "invalid_request_error"),
    (errors.KeyReused, 422, "invalid_request_error"),
    (errors.TokensLimited, 429, "tokens"),
    (errors.RateLimited, 429, "requests"),
    (errors.BudgetSpent, 429, "insufficient_quota"),
    (errors.Draining, 503, "server_error"),
    (errors.Shed, 503, "server_error"),
    (errors.Overloaded, 429, "rate_limit_error"),
    (errors.StorageUnavailable, 503, "server_error"),
    (errors.EngineUnavailable, 503, "server_error"),
    (errors.EngineError, 500, "server_error"),
    (errors.RequestError, 500, "server_error"),
)
ANTHROPIC_STATUS: Final[tuple[tuple[type[RequestError], int, str], ...]] = (
    (errors.PayloadTooLarge, 413, "request_too_large"),
    (errors.InvalidRequest, 400, "invalid_request_error"),
    (errors.Unauthenticated, 401, "authentication_error"),
    (errors.PermissionDenied, 403, "permission_error"),
    (errors.NotFound, 404, "not_found_error"),
    (errors.MethodNotAllowed, 405, "invalid_request_error"),
    (errors.Conflict, 409, "invalid_request_error"),
    (errors.KeyReused, 422, "invalid_request_error"),
    (errors.RateLimited, 429, "rate_limit_error"),
    (errors.BudgetSpent, 429, "rate_limit_error"),
    (errors.Overloaded, 529, "overloaded_error"),
    (errors.StorageUnavailable, 529, "overloaded_error"),
    (errors.EngineUnavailable, 529, "overloaded_error"),
    (errors.RequestError, 500, "api_error"),
)


def status_of(error: RequestError, path: str = "") -> tuple[int, str]:
    """HTTP status and error type, OpenAI's or Anthropic's."""
    rows = ANTHROPIC_STATUS if is_anthropic(path) else STATUS
    return next((status, kind) for cls, status, kind in rows if isinstance(error, cls))


def anthropic_body_of(error: RequestError, request_id: str) -> dict[str, Any]:
    """The error event of Anthropic's streams, which is its error responses' body too."""
    message = error.message
    if isinstance(error, errors.ContextLengthExceeded):
        # The words by which Claude Code knows that it has to shorten its conversation.
        message = f"prompt is too long: {message}"
    _, kind = status_of(error, ANTHROPIC_PATH)
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }


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
    """Headers that tell a client what to do next; the SDKs read `x-should-retry`."""
    status, _ = status_of(error)
    headers = {"x-should-retry": "true" if status in (429, 500, 503) else "false"}
    if isinstance(error, errors.BudgetSpent):
        headers["x-should-retry"] = "false"
    elif isinstance(error, errors.RateLimited):
        if error.retry_after_s is None:
            headers["x-should-retry"] = "false"
        else:
            headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, errors.InFlight):
        headers |= {"x-should-retry": "true", "retry-after": str(round(error.retry_after_s))}
    elif isinstance(
        error, errors.Overloaded | errors.EngineUnavailable | errors.StorageUnavailable
    ):
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, errors.MethodNotAllowed):
        headers["allow"] = error.allow
    if isinstance(error, errors.Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return headers


def response_of(error: RequestError, scope: Scope) -> Response:
    """The answer to the request of this scope, in the shape that its address has."""
    path = scope["path"]
    if is_anthropic(path):
        body = orjson.dumps(anthropic_body_of(error, scope.get(REQUEST_ID, "")))
    else:
        body = body_of(error)
    status, _ = status_of(error, path)
    return Response(body, status, headers_of(error), media_type="application/json")


class Guard:
    """An ASGI application whose errors become responses, without the framework around it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except RequestError as error:
            await response_of(error, scope)(scope, receive, send)
        except Exception:
            log.exception("a request failed")
            await response_of(internal(), scope)(scope, receive, send)


def internal() -> RequestError:
    """A bug of ours, in words fit for a client."""
    return RequestError("this server failed on the request; its log says why", code="internal")


def install(app: FastAPI) -> None:
    """Make every way an answer can fail end in the one shape."""

    async def on_request_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return response_of(error, request.scope)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return response_of(_of_framework(request, error), request.scope)

    async def on_gone(request: Request, error: Exception) -> Response:
        # Nobody reads it.
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def on_bug(request: Request, error: Exception) -> Response:
        # Logged with its traceback by the server; the client learns only that it was us.
        return response_of(internal(), request.scope)

    app.add_exception_handler(RequestError, on_request_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(ClientGone, on_gone)
    app.add_exception_handler(Exception, on_bug)


def _of_framework(request: Request, error: HTTPException) -> RequestError:
    path, method = request.url.path, request.method
    if error.status_code == 404:
        return errors.NotFound(f"Unknown address: {method} {path}", code="unknown_url")
    if error.status_code == 405:
        allow = _allowed(request) or (error.headers or {}).get("Allow", "POST")
        return errors.MethodNotAllowed(f"{path} takes {allow}, not {method}.", allow=allow)
    return errors.InvalidRequest(str(error.detail))


def _allowed(request: Request) -> str:
    """The methods of all that is found at the request's address."""
    there = [
        one for one in request.app.router.routes
        if isinstance(one, Route) and one.matches(request.scope)[0] is not Match.NONE
    ]  # fmt: skip
    # An address that is also what an id's could be is itself.
    there = [one for one in there if one.path == request.url.path] or there
    return ", ".join(sorted({method for one in there for method in one.methods or ()}))
