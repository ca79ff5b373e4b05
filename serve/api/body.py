"""A request's body: bounded before it is buffered, JSON or a clear refusal."""

from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.types import Receive, Scope

from serve.core.errors import InvalidRequest, PayloadTooLarge
from serve.settings.site import Limits

DISCARD_MAX_BYTES: Final = 64 * 1024 * 1024
"""What is read and thrown away of a body that is too large, so that its sender, who is still
writing, gets to read the refusal instead of a broken connection."""


class ClientGone(Exception):
    """The client went away while it was sending."""


class Bounded:
    """What is held to the site's limits, which change while it serves."""

    def __init__(self, limits: Limits) -> None:
        self.bound(limits)

    def bound(self, limits: Limits) -> None:
        """Hold requests to these limits from now on."""
        self._limits = limits
        self._body_max_bytes = int(limits.body_mib * 2**20)


class JsonBodies(Bounded):
    """Reads the bodies of requests."""

    async def read(self, request: Request, *, empty: Any = None) -> Any:
        """The parsed body, or `empty`, where that is given, for none at all.

        Raises PayloadTooLarge, InvalidRequest or ClientGone.
        """
        headers = request.headers
        none = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        if none and empty is not None:
            return empty
        return await read_json(request.scope, request.receive, self._body_max_bytes)


async def read_json(scope: Scope, receive: Receive, body_max_bytes: int) -> Any:
    """The parsed body. Raises PayloadTooLarge, InvalidRequest or ClientGone."""
    declared = content_length(scope)
    if declared is not None and declared > body_max_bytes:
        await discard(receive)
        raise _too_large(body_max_bytes)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    data: bytes = message.get("body", b"")
    if message.get("more_body", False):
        data = await _read_rest(receive, data, body_max_bytes)
    elif len(data) > body_max_bytes:
        raise _too_large(body_max_bytes)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _malformed(data, error) from None


async def _read_rest(receive: Receive, first: bytes, body_max_bytes: int) -> bytes:
    parts = [first]
    size = len(first)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > body_max_bytes:
            parts.clear()
            await discard(receive)
            raise _too_large(body_max_bytes)
        more = message.get("more_body", False)
    return b"".join(parts)


async def discard(receive: Receive) -> None:
    """Read on and throw away, up to DISCARD_MAX_BYTES."""
    size = 0
    while size < DISCARD_MAX_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def content_length(scope: Scope) -> int | None:
    """What the request says of its body's size."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def _too_large(body_max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request body is larger than {body_max_bytes / 2**20:g} MiB (limits.body_mib)."
    )


def _malformed(data: bytes, error: orjson.JSONDecodeError) -> InvalidRequest:
    if not data:
        return InvalidRequest("The request body is empty; send a JSON object.", code="invalid_json")
    try:
        data.decode()
    except UnicodeDecodeError as bad:
        return InvalidRequest(
            f"The request body is not UTF-8 (byte {bad.start}).", code="invalid_json"
        )
    return InvalidRequest(
        f"The request body is not valid JSON: {error.msg} (line {error.lineno}, "
        f"column {error.colno}).",
        code="invalid_json",
    )
