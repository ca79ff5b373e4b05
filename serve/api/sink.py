"""Where a stream's frames leave for the client."""

from collections.abc import Coroutine
from typing import Any, Final

from starlette.types import Send

from serve.served import Headers

_STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class StreamSink:
    """Writes frames to the client; the head goes out with the first of them."""

    __slots__ = ("_headers", "_send", "produced", "started")

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self._headers = headers
        self.started = self.produced = False

    def write(self, frames: bytes) -> Coroutine[Any, Any, None]:
        self.produced = True
        return self._put(frames)

    def comment(self, frames: bytes) -> Coroutine[Any, Any, None]:
        return self._put(frames)

    async def _put(self, frames: bytes) -> None:
        if not self.started:
            self.started = True
            headers = (*_STREAM_HEADERS, *self._headers)
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": frames, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
