"""Messages shaped from vLLM's chat: parsed by the anthropic SDK's own types."""

from typing import Any

import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from serve.core.errors import EngineError, RequestError
from serve.core.usage import Usage
from serve.stream.answer import Shape
from serve.stream.message import SIGNATURE, Manner, MessageEvents, message_of
from serve.stream.sse import DONE, Decoder
from serve.stream.toolcalls import ToolCallInvalid

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
MANNER = Manner(max_tokens=9)


def shape(**changes: Any) -> Shape:
    given: dict[str, Any] = {
        "id": "chatcmpl-1",
        "model": "m",
        "fingerprint": "fp",
        "created": 1,
        "choices": 1,
    }
    return Shape(**(given | changes))


def event(finish: str | None = None, stop: Any = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "stop_reason": stop}
    return orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 7}})


def call(index: int, arguments: str, name: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": index, "function": function} | ({"id": f"c{index}"} if name else {})


COUNTS: dict[str, Any] = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
LAST = orjson.dumps({"choices": [], "usage": COUNTS})


def stream_of(
    *payloads: bytes, manner: Manner = MANNER, **changes: Any
) -> tuple[MessageEvents, list[dict[str, Any]]]:
    stream = MessageEvents(shape(**changes), manner)
    frames = stream.feed(list(payloads))
    return stream, [orjson.loads(data) for data in Decoder().feed(frames)]


def blocks_of(events: list[dict[str, Any]]) -> list[list[str]]:
    """Each block: its type, then what its deltas add."""
    blocks: list[list[str]] = []
    for one in events:
        if one["type"] == "content_block_start":
            assert one["index"] == len(blocks)
            blocks.append([one["content_block"]["type"]])
        elif one["type"] == "content_block_delta":
            assert one["index"] == len(blocks) - 1
            delta = one["delta"]
            blocks[-1].append(str(delta[next(key for key in delta if key != "type")]))
    return blocks


def test_a_stream_from_thought_to_calls() -> None:
    stream, events = stream_of(
        event(role="assistant", content=""),
        event(reasoning="hm"),
        event(content="\n"),
        event(content="So"),
        event(content="\n"),
        event(tool_calls=[call(0, "", "f")]),
        event(tool_calls=[call(0, '{"a":')]),
        event(tool_calls=[call(0, "1}"), call(1, "{}", "g")]),
        event(finish="tool_calls"),
        LAST,
        DONE,
    )
    assert stream.finished
    assert stream.failure is None
    assert blocks_of(events) == [
        ["thinking", "hm", SIGNATURE],
        ["text", "\nSo", "\n"],
        ["tool_use", '{"a":', "1}"],
        ["tool_use", "{}"],
    ]
    for one in events:
        if one["type"] != "ping":
            EVENT.validate_python(one)
    assert events[0]["message"]["usage"]["input_tokens"] == 7
    delta = events[-2]
    assert (delta["delta"]["stop_reason"], delta["delta"]["stop_sequence"]) == ("tool_use", None)
    assert delta["usage"]["input_tokens"] == 3
    assert delta["usage"]["cache_read_input_tokens"] == 4
    assert delta["usage"]["output_tokens_details"] == {"thinking_tokens": 2}
    assert events[-1] == {"type": "message_stop"}
    assert stream.usage == Usage(7, 5, 4, 2)


def test_whitespace_alone_is_no_block() -> None:
    _, events = stream_of(event(content="\n\n"), event(finish="stop"), LAST, DONE)
    assert blocks_of(events) == []
    assert events[-2]["delta"]["stop_reason"] == "end_turn"


def test_thinking_that_is_not_shown_has_its_signature() -> None:
    manner = Manner(thinking_shown=False)
    _, events = stream_of(event(reasoning="hm"), event(content="a", finish="stop"), manner=manner)
    assert blocks_of(events) == [["thinking", SIGNATURE], ["text", "a"]]


def test_a_strict_call_is_sent_once_it_is_whole() -> None:
    schema = {"type": "object", "required": ["a"]}
    payloads = [event(tool_calls=[call(0, "{", "f")]), event(tool_calls=[call(0, "}")])]
    stream, events = stream_of(*payloads, strict_tools={"f": schema})
    assert blocks_of(events) == []
    stream.feed([event(finish="tool_calls")])
    assert isinstance(stream.failure, ToolCallInvalid)


ENDS = [
    ("stop", None, 5, "end_turn", None),
    ("stop", 151645, 5, "end_turn", None),
    ("stop", "###", 5, "stop_sequence", "###"),
    ("length", None, 9, "max_tokens", None),
    ("length", None, 5, "model_context_window_exceeded", None),
    ("content_filter", None, 5, "refusal", None),
]


@pytest.mark.parametrize(("finish", "stop", "out", "reason", "sequence"), ENDS)
def test_how_an_answer_ended(
    finish: str, stop: Any, out: int, reason: str, sequence: str | None
) -> None:
    usage = COUNTS | {"completion_tokens": out}
    last = orjson.dumps({"choices": [], "usage": usage})
    _, events = stream_of(event(content="a"), event(finish=finish, stop=stop), last, DONE)
    told = events[-2]["delta"]
    assert (told["stop_reason"], told["stop_sequence"]) == (reason, sequence)
    choice = {"message": {"content": "a"}, "finish_reason": finish, "stop_reason": stop}
    whole, _ = message_of({"choices": [choice], "usage": usage}, shape(), MANNER)
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)
    Message.model_validate(whole)


def engine(finish: str, stop: str | None = None, **message: Any) -> dict[str, Any]:
    choice = {"message": message, "finish_reason": finish, "stop_reason": stop}
    return {"choices": [choice], "usage": COUNTS}


def whole_call(arguments: str) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}


def test_a_whole_message() -> None:
    answer = engine("tool_calls", reasoning="hm", content="\n", tool_calls=[whole_call('{"a":1}')])
    message, usage = message_of(answer, shape(), Manner(edits_asked=True))
    parsed = Message.model_validate(message, strict=True)
    assert parsed.id == "msg_1"
    thought, called = message["content"]
    assert thought == {"type": "thinking", "thinking": "hm", "signature": SIGNATURE}
    assert (called["id"], called["name"], called["input"]) == ("c", "f", {"a": 1})
    assert message["stop_reason"] == "tool_use"
    assert message["context_management"] == {"applied_edits": []}
    assert message["usage"]["input_tokens"] == 3
    assert usage.prompt == 7


@pytest.mark.parametrize(("finish", "stop"), [("length", None), ("stop", "#")])
def test_a_call_that_was_cut_short_keeps_what_is_whole_of_it(finish: str, stop: str | None) -> None:
    answer = engine(finish, stop, tool_calls=[whole_call('{"a": 1, "b": [2')])
    message, _ = message_of(answer, shape(), MANNER)
    assert message["content"][0]["input"] == {"a": 1, "b": [2]}
    assert message["stop_reason"] != "tool_use"


def failure_of(*payloads: bytes) -> RequestError:
    stream, events = stream_of(*payloads)
    assert stream.failure is not None
    assert not stream.finished
    assert not {"message_delta", "message_stop"} & {one["type"] for one in events}
    return stream.failure


def test_what_is_no_clean_end_is_an_error() -> None:
    assert "abort" in failure_of(event(content="a"), event(finish="abort")).message
    assert "whole" in failure_of(event(content="a"), DONE).message
    broken = failure_of(event(content="a"), orjson.dumps({"error": {"message": "secret"}}))
    assert "secret" not in broken.message
    assert "twice" in failure_of(event(finish="stop"), event(finish="stop")).message
    mixed = [event(tool_calls=[call(0, "{}", "f"), call(1, "", "g"), call(0, " ")])]
    assert "mixed" in failure_of(*mixed).message
    with pytest.raises(EngineError):
        message_of(engine("abort", content="a"), shape(), MANNER)
    with pytest.raises(EngineError):
        message_of({"choices": []}, shape(), MANNER)
