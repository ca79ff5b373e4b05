"""One answer while it comes in: what its events say, and when its tokens came."""

from typing import Any, Final

import orjson

from benchmarks.load.http import Exchange
from benchmarks.load.sse import DONE, Splitter, token_of

DETAIL_MAX_BYTES: Final = 2000
"""What is kept of an answer that is not the one asked for."""
_LAST: Final = ("response.completed", "response.incomplete")


class StreamedAnswer:
    """Reads a stream of events; times are of the monotonic clock, in seconds.

    Raises OversizedEvent, which ends the connection.
    """

    __slots__ = (
        "_splitter", "ended", "error", "first_chunk_s", "model", "text_bytes", "token_times_s",
        "usage",
    )  # fmt: skip

    def __init__(self) -> None:
        self._splitter = Splitter()
        self.token_times_s: list[float] = []
        """When each chunk with a token was read; chunks read together have one time."""
        self.first_chunk_s: float | None = None
        self.text_bytes = 0
        self.usage: dict[str, Any] | None = None
        self.model: str | None = None
        self.ended = False
        """A choice's finish reason, `[DONE]` or a Responses' last event was read."""
        self.error: str | None = None

    def feed(self, body: bytes, exchange: Exchange, now_s: float) -> int:
        """As `benchmarks.load.http.Reader`."""
        payloads = self._splitter.feed(body)
        for payload in payloads:
            if self.first_chunk_s is None:
                self.first_chunk_s = now_s
            if payload == DONE:
                self.ended = True
                continue
            try:
                event = orjson.loads(payload)
            except orjson.JSONDecodeError:
                self.error = self.error or f"not JSON: {payload[:200].decode(errors='replace')}"
                continue
            text = token_of(event)
            if text is not None:
                self.token_times_s.append(now_s)
                self.text_bytes += len(text)
            self._note(event)
        return len(payloads)

    def _note(self, event: dict[str, Any]) -> None:
        if usage := event.get("usage"):
            self.usage = usage
        for choice in event.get("choices") or ():
            if choice.get("finish_reason"):
                self.ended = True
        if self.model is None and "model" in event:
            self.model = event["model"]
        if (error := event.get("error")) and self.error is None:
            self.error = str(error)[:DETAIL_MAX_BYTES]
        if isinstance(response := event.get("response"), dict):
            self._of_response(str(event.get("type")), response)
        elif event.get("type") == "error":
            self.error = str(event.get("message"))[:DETAIL_MAX_BYTES]

    def _of_response(self, kind: str, response: dict[str, Any]) -> None:
        self.model = response.get("model") or self.model
        if kind in _LAST:
            self.ended = True
            self.usage = response.get("usage")
        elif kind == "response.failed":
            self.error = str(response.get("error"))[:DETAIL_MAX_BYTES]


class WholeAnswer:
    """Keeps an answer that is no stream; of one that was not asked for, its beginning alone."""

    __slots__ = ("body", "bytes_max", "first_chunk_s")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.body = bytearray()
        self.first_chunk_s: float | None = None

    def feed(self, body: bytes, exchange: Exchange, now_s: float) -> int:
        """As `benchmarks.load.http.Reader`."""
        if self.first_chunk_s is None:
            self.first_chunk_s = now_s
        self.body += body[: self.bytes_max - len(self.body)]
        return 0

    @property
    def detail(self) -> str:
        """The error's message where there is one; else how the body begins."""
        try:
            found = orjson.loads(self.body)
            error = found.get("error", found)
            text = error.get("message", error) if isinstance(error, dict) else error
        except (orjson.JSONDecodeError, AttributeError):
            text = self.body.decode(errors="replace")
        return " ".join(str(text).split())[:300]
