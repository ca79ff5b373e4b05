"""Server-sent events: split an engine's bytes into payloads, frame our own.

WHATWG HTML, section 9.2 (server-sent events), as far as engines use it: `data:` lines ended by
a blank line. Lines are split on `\\n` only: U+2028 and its like are legal inside JSON.
"""

from typing import Final

from serve.core.errors import EngineError

EVENT_MAX_BYTES: Final = 16 * 1024 * 1024
"""Bound on one event; an engine that sends a larger one has gone wrong."""

DONE: Final = b"[DONE]"
DONE_FRAME: Final = b"data: [DONE]\n\n"


class Decoder:
    """Incremental: feed bytes as they come, get the payloads that are complete."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` payloads completed by these bytes, in order.

        Raises EngineError where one event exceeds EVENT_MAX_BYTES.
        """
        if self._rest:
            data = self._rest + data
        events = data.split(b"\n\n")
        self._rest = events.pop()
        if len(self._rest) > EVENT_MAX_BYTES:
            raise EngineError("the engine sent an event larger than any event can be")
        return [
            event[6:] if event.startswith(b"data: ") else _payload(event)
            for event in events
            if event
        ]


def _payload(event: bytes) -> bytes:
    """The joined data lines of an event with other fields, comments or CRLF in it."""
    lines = [line.rstrip(b"\r") for line in event.split(b"\n")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
