"""Reading server-sent events: split on `\\n` only, for U+2028 is legal inside JSON."""

from typing import Any, Final

import orjson

DONE: Final = b"[DONE]"
EVENT_MAX_BYTES: Final = 16 * 1024 * 1024
"""Bound on what is held of an event that does not end."""
_TOKEN_FIELDS: Final = ("content", "reasoning", "reasoning_content", "tool_calls", "text")


class OversizedEvent(ValueError):
    """A stream has gone wrong: one event is larger than any event can be."""


class Splitter:
    """Bytes as they come in, complete `data` payloads out."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that these bytes complete, in order. Raises OversizedEvent."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > EVENT_MAX_BYTES:
            raise OversizedEvent(f"an event of more than {EVENT_MAX_BYTES} bytes")
        payloads = []
        for line in lines:
            text = line.removesuffix(b"\r")
            if text.startswith(b"data:"):
                self._data.append(text[5:].removeprefix(b" "))
            elif not text and self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
        return payloads


class Counter:
    """Counts events by their blank lines alone, at a fraction of a splitter's cost."""

    __slots__ = ("_open", "events")

    def __init__(self) -> None:
        self.events = 0
        self._open = b""

    def feed(self, chunk: bytes) -> int:
        """Count the events these bytes complete; returns their number."""
        found = (self._open + chunk).count(b"\n\n")
        # A blank line may lie across two reads; one already counted must not count again.
        self._open = b"\n" if chunk.endswith(b"\n") and not chunk.endswith(b"\n\n") else b""
        self.events += found
        return found


def token_text(payload: bytes) -> str | None:
    """The text a payload adds to the answer; None if it carries no token."""
    return None if payload == DONE else token_of(orjson.loads(payload))


def token_of(event: Any) -> str | None:
    """The text that an event adds to the answer; None if it carries no token.

    A token is a non-empty content, reasoning or tool delta (chat), text (completions), or any delta
    of the Responses API.
    """
    for choice in event.get("choices") or ():
        delta = choice.get("delta", choice)
        for name in _TOKEN_FIELDS:
            if value := delta.get(name):
                return value if isinstance(value, str) else ""
    if (delta := event.get("delta")) and str(event.get("type")).endswith(".delta"):
        return delta if isinstance(delta, str) else ""
    return None


def usage_of(payload: bytes) -> dict[str, Any] | None:
    """The usage object a payload carries, if any."""
    if payload == DONE:
        return None
    usage: dict[str, Any] | None = orjson.loads(payload).get("usage")
    return usage
