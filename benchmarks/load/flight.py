"""One request on its way, and the row that is left of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import orjson

from benchmarks.load.answer import DETAIL_MAX_BYTES, StreamedAnswer, WholeAnswer
from benchmarks.load.http import Connection
from benchmarks.load.result import Outcome, Row
from benchmarks.load.workload import Planned

VECTORS_MAX_BYTES: Final = 64 * 1024 * 1024
KEPT_HEADERS: Final = (b"x-request-id", b"openai-processing-ms", b"x-ratelimit-")


class WatchedConnection(Connection):
    """A connection that looks at an answer's head before it reads its body."""

    def __init__(self, on_end: Callable[[Connection], None]) -> None:
        super().__init__(on_end)
        self.flight: Flight | None = None
        self.idle_since_s = 0.0
        self.kept_alive = True
        self._type = b""

    def note_end(self) -> None:
        """Whether it may be used again is known only while its answer's end is being read."""
        self.kept_alive = not self.closed and self._parser.should_keep_alive()

    def take_off(self, flight: "Flight", request: bytes) -> None:
        """Send it; its answer goes to the flight."""
        self.flight = flight
        self._type = b""
        self.send(request, flight.reader)
        assert self.exchange is not None
        flight.sent_s = self.exchange.sent_s

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"content-type":
            self._type = value
        elif self.flight is not None and lowered.startswith(KEPT_HEADERS):
            self.flight.headers[lowered.decode()] = value.decode(errors="replace")[:200]

    def on_headers_complete(self) -> None:
        if self.flight is not None and self.exchange is not None:
            self.exchange.status = self._parser.get_status_code()
            self._reader = self.flight.reader_for(self.exchange.status, self._type)


def land(connection: WatchedConnection) -> "Flight":
    """Take a flight whose exchange has ended off its connection, which may take the next."""
    flight, exchange = connection.flight, connection.exchange
    assert flight is not None and exchange is not None
    connection.flight = connection.exchange = None
    connection.idle_since_s = exchange.end_s
    connection.note_end()
    flight.status, flight.end_s = exchange.status, exchange.end_s
    if exchange.failed and flight.lost is None and connection.closed:
        flight.lost, flight.detail = "cut", "the connection was closed before the answer's end"
    return flight


@dataclass(slots=True)
class Flight:
    """A request between its sending and its row; times are of the monotonic clock."""

    planned: Planned
    intended_s: float
    reader: StreamedAnswer | WholeAnswer
    sent_s: float | None = None
    status: int = 0
    end_s: float | None = None
    lost: Outcome | None = None
    """Why it ended before its answer did."""
    detail: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def reader_for(self, status: int, content_type: bytes) -> StreamedAnswer | WholeAnswer:
        """The reader for an answer with this head: one that is not what was asked for is kept."""
        streamed = isinstance(self.reader, StreamedAnswer)
        if status != 200 or (streamed and not content_type.startswith(b"text/event-stream")):
            self.reader = WholeAnswer(DETAIL_MAX_BYTES)
        return self.reader

    @property
    def answered(self) -> bool:
        """Whether it ended well."""
        return self._outcome()[0] == "ok"

    def row(self, origin_s: float) -> Row:
        """What is left of it, with times after `origin_s`."""
        reader = self.reader
        outcome, detail = self._outcome()
        usage = _usage(reader)
        times = reader.token_times_s if isinstance(reader, StreamedAnswer) else []

        def after(at_s: float | None) -> float | None:
            return None if at_s is None else round(at_s - origin_s, 6)

        return Row(
            id=self.planned.id, session=self.planned.session, outcome=outcome,
            status=self.status, detail=detail, intended_s=round(self.intended_s - origin_s, 6),
            sent_s=after(self.sent_s), first_chunk_s=after(reader.first_chunk_s),
            first_token_s=after(times[0] if times else None),
            last_token_s=after(times[-1] if times else None), end_s=after(self.end_s),
            token_chunks=len(times),
            gaps_s=tuple(round(after - before, 6) for before, after in pairwise(times)),
            prompt_tokens=_count(usage, "prompt_tokens", "input_tokens"),
            cached_tokens=_detail(usage, ("prompt_tokens_details", "input_tokens_details"),
                                  "cached_tokens"),
            completion_tokens=_count(usage, "completion_tokens", "output_tokens"),
            doubt=doubt(self.planned, reader, usage) if outcome == "ok" else None,
            model=reader.model if isinstance(reader, StreamedAnswer) else usage.get("model"),
            headers=self.headers,
        )  # fmt: skip

    def _outcome(self) -> tuple[Outcome, str]:
        """How it ended, in a word and a line."""
        reader = self.reader
        if self.status not in (0, 200) and isinstance(reader, WholeAnswer):
            return _refusal(self.status), reader.detail
        if isinstance(reader, StreamedAnswer):
            return self._of_stream(reader)
        if self.lost is not None:
            return self.lost, self.detail
        if self.planned.api != "embeddings":
            return "wrong_answer", f"no event stream: {reader.detail}"
        return ("ok", "") if _vectors(reader) else ("wrong_answer", reader.detail)

    def _of_stream(self, reader: StreamedAnswer) -> tuple[Outcome, str]:
        if reader.error is not None:
            return "error", reader.error
        if not reader.ended and self.lost is not None:
            return self.lost, self.detail
        if not reader.ended:
            return "cut", "the stream ended before the answer did"
        return ("ok", "") if reader.token_times_s else ("empty", "ended without a token")


def reader_of(planned: Planned) -> StreamedAnswer | WholeAnswer:
    """The reader for the answer that is asked for."""
    return WholeAnswer(VECTORS_MAX_BYTES) if planned.api == "embeddings" else StreamedAnswer()


def doubt(
    planned: Planned, reader: StreamedAnswer | WholeAnswer, usage: dict[str, Any]
) -> str | None:
    """Why the tokens that usage reports cannot be so; None where they can.

    Each chunk with text is at least one token, no token has less than one byte, and none came past
    the cap. Hidden reasoning is counted and not seen, and is taken off before.
    """
    if not isinstance(reader, StreamedAnswer):
        return None
    told = _count(usage, "completion_tokens", "output_tokens")
    if told is None:
        return "no usage"
    chunks = len(reader.token_times_s)
    hidden = (
        _detail(usage, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        or 0
    )
    if told < chunks:
        return f"usage says {told} tokens, and {chunks} chunks had one"
    if reader.text_bytes and told - hidden > reader.text_bytes + 2:
        return f"usage says {told} tokens for {reader.text_bytes} bytes of text"
    if planned.max_tokens is not None and told > planned.max_tokens:
        return f"usage says {told} tokens where at most {planned.max_tokens} were asked for"
    return None


def _refusal(status: int) -> Outcome:
    if status == 429:
        return "quota"
    return "server_error" if status >= 500 else "refused"


def _usage(reader: StreamedAnswer | WholeAnswer) -> dict[str, Any]:
    """Usage as it was given; of an answer that is no stream, with its model's name."""
    if isinstance(reader, StreamedAnswer):
        return reader.usage if isinstance(reader.usage, dict) else {}
    try:
        body = orjson.loads(reader.body)
        return {**body["usage"], "model": body.get("model")}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}


def _vectors(reader: WholeAnswer) -> bool:
    try:
        return bool(orjson.loads(reader.body)["data"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        if isinstance(value := usage.get(name), int) and value >= 0:
            return value
    return None


def _detail(usage: dict[str, Any], groups: tuple[str, ...], name: str) -> int | None:
    for group in groups:
        if isinstance(details := usage.get(group), dict):
            return _count(details, name)
    return None
