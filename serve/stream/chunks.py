"""Streamed answers: an engine's events in, the hosted API's frames out.

One object per stream. `feed` takes the payloads of one read and returns the frames to write,
joined, so that a stream that has fallen behind catches up in one write.
"""

from typing import Any, Final

import orjson

from serve.core.errors import EngineError, InvalidRequest, RequestError
from serve.core.said import Said
from serve.core.usage import Usage
from serve.stream.answer import JSON, Shape, chat_logprobs
from serve.stream.finish import chat_finish, completion_finish
from serve.stream.sse import DONE, DONE_FRAME
from serve.stream.toolcalls import CallStream

_END: Final = b"}\n\n"
_END_WITHOUT_USAGE: Final = b',"usage":null}\n\n'


class ChunkStream:
    """Common part: framing, usage, and the rule that only a whole answer ends in `[DONE]`."""

    object = "chat.completion.chunk"

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.counted: JSON | None = None
        """What the engine says of the tokens so far."""
        self.finished = False
        self.failure: RequestError | None = None
        self.tokens_seen = False
        """Whether anything a reader would call output has been seen."""
        self.said = Said()
        self._ended: dict[int, str] = {}
        head = {
            "id": shape.id,
            "object": self.object,
            "created": shape.created,
            "model": shape.model,
            "system_fingerprint": shape.fingerprint,
            **self._extra_head(),
        }
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":'
        self._tail = _END_WITHOUT_USAGE if shape.include_usage else _END

    @property
    def usage(self) -> Usage | None:
        """The tokens so far, without the details until the end; None before the first count."""
        return None if self.counted is None else Usage.of_engine(self.counted)

    @property
    def finish(self) -> str:
        """Why the choices ended that have, each reason once."""
        return ",".join(sorted(set(self._ended.values())))

    def feed(self, payloads: list[bytes]) -> bytes:
        """Frames for these payloads.

        An error frame, an unclean finish or an early end is left in `failure`, for the caller
        to raise once it has written the frames that came before it.
        """
        out: list[bytes] = []
        try:
            for payload in payloads:
                self._event(payload, out)
        except RequestError as failure:
            self.failure = failure
        except (ValueError, KeyError, TypeError):
            self.failure = EngineError("the model's process sent what is no part of an answer")
        return out[0] if len(out) == 1 else b"".join(out)

    def _event(self, payload: bytes, out: list[bytes]) -> None:
        if payload == DONE:
            out.append(self._done())
            return
        event = orjson.loads(payload)
        choices = event.get("choices")
        if choices:
            for choice in choices:
                self.said.take(choice)
            shaped = [s for c in choices if (s := self._choice(c)) is not None]
            if shaped:
                out.append(self._head + orjson.dumps(shaped) + self._tail)
        elif "error" in event:
            raise _engine_said(event["error"])
        if usage := event.get("usage"):
            self.counted = usage

    def _done(self) -> bytes:
        if len(self._ended) != self.shape.choices:
            raise EngineError("the model's process ended this answer before it was whole")
        self.finished = True
        if not self.shape.include_usage:
            return DONE_FRAME
        usage = orjson.dumps((self.usage or Usage()).openai())
        return self._head + b'[],"usage":' + usage + _END + DONE_FRAME

    def _end(self, index: int, reason: str) -> None:
        if index in self._ended:
            raise EngineError("the model's process ended one choice twice")
        self._ended[index] = reason

    def _extra_head(self) -> JSON:
        return {}

    def _choice(self, choice: JSON) -> JSON | None:
        raise TypeError(f"{type(self).__name__} shapes no choices")


class ChatChunks(ChunkStream):
    """`chat.completion.chunk` frames: the role once, one finish reason a choice."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self._roles: set[int] = set()
        self._calls: dict[int, CallStream] = {}

    def _extra_head(self) -> JSON:
        return {"service_tier": self.shape.tier}

    def _choice(self, choice: JSON) -> JSON | None:
        index: int = choice["index"]
        reason = choice.get("finish_reason")
        delta = self._delta(index, choice["delta"])
        if reason is not None:
            reason = self._finish(index, str(reason), delta)
        elif not delta and not choice.get("logprobs"):
            return None
        logprobs = choice.get("logprobs")
        return {
            "index": index,
            "delta": delta,
            "logprobs": chat_logprobs(logprobs) if logprobs else None,
            "finish_reason": reason,
        }

    def _delta(self, index: int, delta: JSON) -> JSON:
        shaped: JSON = {}
        content = delta.get("content")
        if index not in self._roles:
            self._roles.add(index)
            shaped["role"] = "assistant"
            shaped["content"] = content or ""
            shaped["refusal"] = None
        elif content:
            shaped["content"] = content
        if content:
            self.tokens_seen = True
        if len(delta) == 1 and content is not None:
            return shaped
        if reasoning := delta.get("reasoning"):
            shaped["reasoning"] = shaped["reasoning_content"] = reasoning
            self.tokens_seen = True
        if calls := delta.get("tool_calls"):
            self.tokens_seen = True
            if sent := self._call_stream(index).feed(calls):
                shaped["tool_calls"] = sent
        return shaped

    def _call_stream(self, index: int) -> CallStream:
        if index not in self._calls:
            self._calls[index] = CallStream(self.shape.strict_tools)
        return self._calls[index]

    def _finish(self, index: int, reason: str, delta: JSON) -> str:
        self._end(index, reason)
        calls = self._calls.get(index)
        finish = chat_finish(
            reason, called=calls is not None and calls.called, forced=self.shape.forced_tool
        )
        if calls is not None and (held := calls.finish(finish)):
            delta["tool_calls"] = delta.get("tool_calls", []) + held
        return finish


class CompletionChunks(ChunkStream):
    """`text_completion` frames."""

    object = "text_completion"

    def _choice(self, choice: JSON) -> JSON | None:
        reason = choice.get("finish_reason")
        text = choice.get("text") or ""
        if text:
            self.tokens_seen = True
        elif reason is None and not choice.get("logprobs"):
            return None
        if reason is not None:
            self._end(choice["index"], str(reason))
            reason = completion_finish(str(reason))
        return {
            "index": choice["index"],
            "text": text,
            "logprobs": choice.get("logprobs"),
            "finish_reason": reason,
        }


def _engine_said(error: Any) -> EngineError | InvalidRequest:
    """An engine's error frame as our own; its words may be ours to show only for bad input."""
    status = error.get("code") if isinstance(error, dict) else None
    if status == 400:
        return InvalidRequest(str(error.get("message", ""))[:500], code="invalid_value")
    return EngineError("the model's process failed while it worked on this answer")
