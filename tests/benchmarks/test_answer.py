"""What is read of streams that the stub does not send: Responses, tools, other manners."""

import orjson
import pytest

from benchmarks.load.answer import StreamedAnswer, WholeAnswer
from benchmarks.load.flight import Flight
from benchmarks.load.http import Exchange
from benchmarks.load.result import Row
from benchmarks.load.sse import EVENT_MAX_BYTES, OversizedEvent
from benchmarks.load.workload import Message, Planned

HELLO = (Message(role="user", content="hello"),)


def frames(*events: object) -> list[bytes]:
    return [b"data: " + orjson.dumps(event) + b"\n\n" for event in events]


def read(api: str, parts: list[bytes], status: int = 200, max_tokens: int = 50) -> Row:
    """As if each part came 1 s after the one before, from 10 s on."""
    planned = Planned.model_validate(
        {"id": 0, "offset_s": 0, "api": api, "messages": HELLO, "max_tokens": max_tokens}
    )
    flight = Flight(planned, 8.0, StreamedAnswer(), sent_s=9.0, status=status)
    for number, part in enumerate(parts):
        flight.reader.feed(part, Exchange(9.0), 10.0 + number)
    flight.end_s = 10.0 + len(parts)
    return flight.row(8.0)


def response(kind: str, **fields: object) -> dict[str, object]:
    return {"type": kind, "response": {"model": "m-1", **fields}}


DELTA = {"type": "response.output_text.delta", "delta": "word "}
USAGE = {
    "input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 3},
    "output_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip


def test_a_response_is_read_to_its_last_event() -> None:
    row = read(
        "responses",
        frames(response("response.created"), DELTA, DELTA, response("response.completed",
               usage=USAGE)),
    )  # fmt: skip
    assert (row.outcome, row.model, row.doubt) == ("ok", "m-1", None)
    assert (row.first_chunk_s, row.first_token_s, row.last_token_s) == (2.0, 3.0, 4.0)
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (5, 3, 2)


def test_a_response_that_fails_is_an_error() -> None:
    error = {"code": "server_error", "message": "no more memory"}
    row = read("responses", frames(DELTA, response("response.failed", error=error)))
    assert row.outcome == "error"
    assert "no more memory" in row.detail


def chat(**delta: object) -> dict[str, object]:
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def usage(completion: int, reasoning: int = 0) -> dict[str, object]:
    details = {"reasoning_tokens": reasoning}
    return {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": completion,
            "completion_tokens_details": details}}  # fmt: skip


@pytest.mark.parametrize("delta", [{"reasoning_content": "hm"}, {"tool_calls": [{"index": 0}]}])
def test_reasoning_and_tool_calls_are_tokens(delta: dict[str, object]) -> None:
    row = read("chat", frames(chat(role="assistant", content=""), chat(**delta), END, usage(1)))
    assert (row.outcome, row.first_chunk_s, row.first_token_s) == ("ok", 2.0, 3.0)
    assert row.cached_tokens is None


def test_reasoning_that_is_hidden_is_no_lie() -> None:
    row = read("chat", frames(chat(content="ok"), END, usage(40, reasoning=39)))
    assert row.doubt is None
    assert read("chat", frames(chat(content="ok"), END, usage(40))).doubt is not None


def test_more_tokens_than_the_cap_are_a_lie() -> None:
    parts = frames(*[chat(content="word ")] * 3, END, usage(3))
    assert read("chat", parts, max_tokens=3).doubt is None
    assert read("chat", parts, max_tokens=2).doubt == (
        "usage says 3 tokens where at most 2 were asked for"
    )


def test_garbage_in_a_stream_is_an_error() -> None:
    row = read("chat", [*frames(chat(content="a")), b"data: {oops\n\n"])
    assert (row.outcome, row.detail) == ("error", "not JSON: {oops")


def test_an_event_without_end_is_refused() -> None:
    answer = StreamedAnswer()
    with pytest.raises(OversizedEvent):
        answer.feed(b"data: " + b"x" * (EVENT_MAX_BYTES + 1), Exchange(0.0), 0.0)


def test_only_the_beginning_of_another_answer_is_kept() -> None:
    answer = WholeAnswer(10)
    for _ in range(3):
        answer.feed(b"seven\n7", Exchange(0.0), 1.0)
    assert answer.detail == "seven 7sev"
    assert answer.first_chunk_s == 1.0
