"""Anthropic's message, streamed and whole, of an engine's chat completion."""

from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic_core import from_json

from serve.core.errors import EngineError
from serve.core.usage import Usage
from serve.stream.answer import JSON, Shape
from serve.stream.chunks import ChunkStream
from serve.stream.finish import chat_finish
from serve.stream.sse import DONE
from serve.stream.toolcalls import CallStream, shape_calls

SIGNATURE: Final = "inhouse"
"""Of thinking blocks, where Anthropic's API has one; whatever comes back is taken."""


@dataclass(frozen=True, slots=True)
class Manner:
    """What a request says of its answer's form.

    `max_tokens` is what the client allowed, which may be more than its context had room for.
    `thinking_shown`: thinking blocks have their text. `edits_asked`: the answer says which edits
    of the context were applied: none.
    """

    max_tokens: int | None = None
    thinking_shown: bool = True
    edits_asked: bool = False


@dataclass(frozen=True, slots=True)
class _Stop:
    """How an answer ended: a chat's finish reason, and the stop sequence that was met."""

    finish: str
    sequence: str | None

    @classmethod
    def of(cls, choice: JSON, *, called: bool) -> "_Stop":
        """Raises EngineError where the end is not a clean one."""
        finish = chat_finish(str(choice.get("finish_reason")), called=called, forced=False)
        met = choice.get("stop_reason")
        # A number is a token that ends every answer of the model.
        return cls(finish, met if type(met) is str and finish != "length" else None)

    @property
    def check(self) -> str:
        """The reason by which calls are checked: a call that a bound has cut short is not."""
        return "length" if self.sequence is not None else self.finish

    def told(self, usage: Usage, manner: Manner) -> JSON:
        """The fields of the message that say it."""
        return {
            "stop_reason": self._reason(usage, manner),
            "stop_sequence": self.sequence,
            "stop_details": None,
        }

    def _reason(self, usage: Usage, manner: Manner) -> str:
        if self.sequence is not None:
            return "stop_sequence"
        if self.finish == "length":
            allowed = manner.max_tokens
            full = allowed is not None and usage.completion < allowed
            return "model_context_window_exceeded" if full else "max_tokens"
        return _REASONS[self.finish]


_REASONS: Final = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def message_of(engine: JSON, shape: Shape, manner: Manner) -> tuple[JSON, Usage]:
    """A whole `message` and its usage.

    Raises EngineError where the engine's answer is not a clean, whole one.
    """
    choices = engine.get("choices") or []
    if len(choices) != 1:
        raise EngineError(f"the model's process answered {len(choices)} of 1 choices")
    choice = choices[0]
    usage = Usage.of_engine(engine.get("usage") or {})
    calls = choice["message"].get("tool_calls") or []
    stop = _Stop.of(choice, called=bool(calls))
    blocks = _said(choice["message"], manner)
    for call in shape_calls(calls, stop.check, shape.strict_tools):
        function = call["function"]
        block = _tool_use(call["id"], function["name"])
        blocks.append({**block, "input": _input(function["arguments"])})
    message = {**_opened(shape, usage), "content": blocks, **stop.told(usage, manner)}
    return message | _edits(manner), usage


def _said(message: JSON, manner: Manner) -> list[JSON]:
    blocks: list[JSON] = []
    if thought := message.get("reasoning"):
        shown = thought if manner.thinking_shown else ""
        blocks.append({"type": "thinking", "thinking": shown, "signature": SIGNATURE})
    if (text := message.get("content")) and not text.isspace():
        blocks.append({"type": "text", "text": text})
    return blocks


def _input(arguments: str) -> JSON:
    """A call's input; of one that was cut short, what is whole of it, as the SDKs read a stream."""
    try:
        found = from_json(arguments, allow_partial=True)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


class MessageEvents(ChunkStream):
    """The events of one streamed message, from `message_start` to `message_stop`.

    A block opens with its first output and closes where another kind of output begins, or the
    answer ends. How it ended is told once the engine has sent its counts.
    """

    def __init__(self, shape: Shape, manner: Manner) -> None:
        super().__init__(shape)
        self._manner = manner
        self._started = False
        self._index = -1
        self._open: str | int | None = None
        """The open block: its type, or the place of the call that it is."""
        self._blank = ""
        """Whitespace that is no block unless text follows."""
        self._calls = CallStream(shape.strict_tools)
        self._stop: _Stop | None = None

    def _event(self, payload: bytes, out: list[bytes]) -> None:
        event = None if payload == DONE else orjson.loads(payload)
        if event is None or not event.get("choices"):
            super()._event(payload, out)
            return
        if usage := event.get("usage"):
            self.counted = usage
        if not self._started:
            self._started = True
            message = _opened(self.shape, self.usage or Usage())
            out.append(frame({"type": "message_start", "message": message}))
            out.append(frame({"type": "ping"}))
        for choice in event["choices"]:
            self.said.take(choice)
            self._take(choice, out)

    def _take(self, choice: JSON, out: list[bytes]) -> None:
        delta = choice["delta"]
        if thought := delta.get("reasoning"):
            self._think(thought, out)
        if text := delta.get("content"):
            self._say(text, out)
        if calls := delta.get("tool_calls"):
            self.tokens_seen = True
            self._call(self._calls.feed(calls), out)
        if choice.get("finish_reason") is not None:
            self._end(choice["index"], str(choice["finish_reason"]))
            self._stop = _Stop.of(choice, called=self._calls.called)
            self._call(self._calls.finish(self._stop.check), out)
            self._close(out)

    def _think(self, thought: str, out: list[bytes]) -> None:
        self.tokens_seen = True
        if self._open != "thinking":
            self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""}, out)
        if self._manner.thinking_shown:
            out.append(self._delta({"type": "thinking_delta", "thinking": thought}))

    def _say(self, text: str, out: list[bytes]) -> None:
        self.tokens_seen = True
        if self._open != "text":
            if text.isspace():
                self._blank += text
                return
            text, self._blank = self._blank + text, ""
            self._begin("text", {"type": "text", "text": ""}, out)
        out.append(self._delta({"type": "text_delta", "text": text}))

    def _call(self, deltas: list[JSON], out: list[bytes]) -> None:
        for delta in deltas:
            place: int = delta["index"]
            function = delta["function"]
            if "id" in delta:
                self._blank = ""
                self._begin(place, _tool_use(delta["id"], function["name"]), out)
            elif self._open != place:
                raise EngineError("the model's process mixed the calls of this answer")
            if arguments := function["arguments"]:
                out.append(self._delta({"type": "input_json_delta", "partial_json": arguments}))

    def _begin(self, what: str | int, block: JSON, out: list[bytes]) -> None:
        self._close(out)
        self._open = what
        self._index += 1
        out.append(
            frame({"type": "content_block_start", "index": self._index, "content_block": block})
        )

    def _close(self, out: list[bytes]) -> None:
        if self._open is None:
            return
        if self._open == "thinking":
            out.append(self._delta({"type": "signature_delta", "signature": SIGNATURE}))
        out.append(frame({"type": "content_block_stop", "index": self._index}))
        self._open = None

    def _delta(self, delta: JSON) -> bytes:
        return frame({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _done(self) -> bytes:
        if self._stop is None:
            raise EngineError("the model's process ended this answer before it was whole")
        self.finished = True
        usage = self.usage or Usage()
        event = {
            "type": "message_delta",
            "delta": {**self._stop.told(usage, self._manner), "container": None},
            "usage": usage.anthropic(),
        }
        return frame(event | _edits(self._manner)) + frame({"type": "message_stop"})


def frame(event: JSON) -> bytes:
    """An event of the stream, under its type's name."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def _opened(shape: Shape, usage: Usage) -> JSON:
    """The message before anything is in it."""
    counted: dict[str, Any] = {
        **usage.anthropic(),
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }
    return {
        "id": "msg_" + shape.id.partition("-")[2],
        "type": "message",
        "role": "assistant",
        "model": shape.model,
        "content": [],
        "container": None,
        "diagnostics": None,
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": counted,
    }


def _tool_use(call_id: str, name: str) -> JSON:
    return {
        "type": "tool_use",
        "id": call_id,
        "name": name,
        "input": {},
        "caller": {"type": "direct"},
    }


def _edits(manner: Manner) -> JSON:
    return {"context_management": {"applied_edits": []}} if manner.edits_asked else {}
