"""A server of known times, to measure clients with: real HTTP on a socket, and no model.

Each token is written by itself when it is due: `ttft_s` after its request was read, then every
`gap_s`. The times are absolute: lateness does not add up. `python -m benchmarks.load.stub` prints
its port. The model's name says how it misbehaves (`stub:html`; see Manner), for tests of clients.
"""

import argparse
import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

import httptools
import orjson
import uvloop

from benchmarks.load.percentile import percentile
from benchmarks.load.sse import DONE

LATE_PATH: Final = b"/stub/late"
LATENESS_MAX: Final = 200_000
"""Samples of its own lateness that are kept."""

Manner = Literal[
    "ok", "quota", "broken", "html", "json", "cut", "error", "empty", "silent", "no_usage",
    "few_tokens", "many_tokens", "no_end",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pace:
    """What the stub is told; `stall`: nothing is written in this span after the first request."""

    ttft_s: float = 0.2
    gap_s: float = 0.02
    tokens: int = 64
    """Where a request names no cap."""
    fail_every: int = 0
    """Each so manieth request is refused with 500; 0: none."""
    stall_at_s: float = 0.0
    stall_s: float = 0.0

    def released_s(self, due_s: float, first_s: float) -> float:
        """When what is due then is written; `first_s` is when the first request was read."""
        begin_s = first_s + self.stall_at_s
        return begin_s + self.stall_s if begin_s <= due_s < begin_s + self.stall_s else due_s


class Stub:
    """What its connections share."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.first_s: float | None = None
        self.requests = 0
        self.late_s: list[float] = []

    def due_in_s(self, due_s: float) -> float:
        """How long to wait until then, in seconds."""
        assert self.first_s is not None
        return self.pace.released_s(due_s, self.first_s) - time.perf_counter()

    def wrote(self, due_s: float) -> None:
        """Note how late a token was."""
        assert self.first_s is not None
        if len(self.late_s) < LATENESS_MAX:
            released_s = self.pace.released_s(due_s, self.first_s)
            self.late_s.append(time.perf_counter() - released_s)

    def lateness(self) -> bytes:
        """Lateness since the last time it was asked, and processor time; seconds, as JSON."""
        late, self.late_s = self.late_s, []
        document = {
            "tokens": len(late), "p50_s": percentile(late, 0.5), "p99_s": percentile(late, 0.99),
            "cpu_s": time.process_time(),
        }  # fmt: skip
        return orjson.dumps(document)


class StubProtocol(asyncio.Protocol):
    """One connection: requests in turn, each answered by a timer chain."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body = bytearray()
        self._url = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = bytes(self._body), bytearray()
        if self._url == LATE_PATH:
            self._whole(200, self._stub.lateness())
            return
        stub = self._stub
        now_s = time.perf_counter()
        stub.first_s = now_s if stub.first_s is None else stub.first_s
        stub.requests += 1
        request = orjson.loads(body)
        manner = _manner(request["model"])
        every = stub.pace.fail_every
        if every and stub.requests % every == 0:
            manner = "broken"
        if not self._refused(manner):
            self._stream(request, manner, now_s)

    def _refused(self, manner: Manner) -> bool:
        if manner == "quota":
            self._whole(429, b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}')
        elif manner == "broken":
            self._whole(500, b'{"error":{"message":"it broke"}}')
        elif manner == "html":
            self._whole(200, b"<html><body>Please log in</body></html>", b"text/html")
        elif manner == "json":
            self._whole(200, b'{"choices":[{"message":{"content":"not streamed"}}]}')
        return manner in ("quota", "broken", "html", "json", "silent")

    def _stream(self, request: dict[str, object], manner: Manner, now_s: float) -> None:
        pace = self._stub.pace
        cap = request.get("max_completion_tokens") or request.get("max_tokens") or pace.tokens
        assert isinstance(cap, int)
        answer = _Answer(manner, cap, now_s + pace.ttft_s, _prompt_tokens(request))
        self._write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
            b"x-request-id: stub-%d\r\n\r\n" % self._stub.requests + _chunk(_ROLE)
        )
        self._wait(answer, answer.first_s)

    def _wait(self, answer: "_Answer", due_s: float) -> None:
        wait_s = max(0.0, self._stub.due_in_s(due_s))
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._token, answer, due_s)

    def _token(self, answer: "_Answer", due_s: float) -> None:
        if answer.manner in ("cut", "error") and answer.written == answer.tokens // 2:
            self._break_off(answer.manner)
            return
        last = answer.written + 1 >= answer.tokens
        if answer.manner == "empty":
            self._write(answer.end())
            return
        answer.written += 1
        self._write(_TOKEN + answer.end() if last else _TOKEN)
        self._stub.wrote(due_s)
        if not last:
            self._wait(answer, answer.first_s + answer.written * self._stub.pace.gap_s)

    def _break_off(self, manner: Manner) -> None:
        if manner == "error":
            self._write(_chunk(b'data: {"error":{"message":"the engine died"}}\n\n') + b"0\r\n\r\n")
        elif self._transport is not None:
            self._transport.abort()

    def _whole(self, status: int, body: bytes, type_: bytes = b"application/json") -> None:
        self._write(
            b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (status, type_, len(body), body)
        )

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


@dataclass(slots=True)
class _Answer:
    manner: Manner
    tokens: int
    first_s: float
    prompt_tokens: int
    written: int = 0

    def end(self) -> bytes:
        """Finish, usage and `[DONE]`, as the manner has them."""
        told = {"few_tokens": self.written // 2, "many_tokens": self.written * 1000}
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": told.get(self.manner, self.written),
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        frames = b"" if self.manner == "no_end" else _FINISH
        if self.manner != "no_usage":
            frames += b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n"
        if self.manner != "no_end":
            frames += b"data: " + DONE + b"\n\n"
        return _chunk(frames) + b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_EVENT: Final = (
    b'data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1,"model":"stub",'
    b'"choices":[{"index":0,"delta":{%b},"finish_reason":%b}]}\n\n'
)
_ROLE: Final = _EVENT % (b'"role":"assistant","content":""', b"null")
_FINISH: Final = _EVENT % (b"", b'"stop"')
_TOKEN: Final = _chunk(_EVENT % (b'"content":" word"', b"null"))


def _manner(model: object) -> Manner:
    _, _, word = str(model).partition(":")
    return cast(Manner, word) if word in get_args(Manner) else "ok"


def _prompt_tokens(request: dict[str, object]) -> int:
    return len(str(request.get("messages")).split())


async def _serve(pace: Pace, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    stub = Stub(pace)
    server = await loop.create_server(lambda: StubProtocol(stub), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """Serve until SIGTERM."""
    default = Pace()
    parser = argparse.ArgumentParser(description="a server of known times")
    parser.add_argument("--port", type=int, default=0)
    for name in Pace.__slots__:
        kind = type(getattr(default, name))
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=kind, default=getattr(default, name))
    given = vars(parser.parse_args())
    port = given.pop("port")
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(Pace(**given), port))


if __name__ == "__main__":
    main()
