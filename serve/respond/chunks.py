"""An engine's chat, chunk by chunk, as the events of a response."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import orjson

from serve.core.errors import EngineError
from serve.respond.events import CUT, Answer, item_status
from serve.respond.items import CustomCall, FunctionCall, Message
from serve.respond.offer import Offered
from serve.respond.serveritems import ApprovalRequest, ServerCall
from serve.stream.answer import JSON, Shape, chat_logprobs
from serve.stream.chunks import ChunkStream
from serve.stream.finish import chat_finish
from serve.stream.sse import DONE
from serve.stream.toolcalls import CallStream

CallItem = FunctionCall | CustomCall | ServerCall | ApprovalRequest


class AnswerChunks(ChunkStream):
    """One attempt at one engine call of a response.

    Frames come only with output, so that an attempt which has written none may be made again.
    The end of the call is not the end of the response: that is not told here.
    """

    def __init__(
        self,
        shape: Shape,
        answer: Answer,
        custom_tools: AbstractSet[str],
        namespaces: Mapping[str, tuple[str, str]],
        server_tools: Mapping[str, Offered],
        *,
        logprobs: bool,
    ) -> None:
        super().__init__(shape)
        answer.rewind()
        answer.model = shape.model
        self._answer = answer
        self._custom_tools = custom_tools
        self._namespaces = namespaces
        self._server_tools = server_tools
        self._wants_logprobs = logprobs
        self._blank = ""
        """Whitespace that is no message unless text follows."""
        self._logprobs: list[JSON] = []
        """Of tokens whose text is still to come."""
        self._calls = CallStream(shape.strict_tools, server_tools)
        self._call: tuple[int, CallItem] | None = None

    def _event(self, payload: bytes, out: list[bytes]) -> None:
        event = None if payload == DONE else orjson.loads(payload)
        if event is None or not event.get("choices"):
            super()._event(payload, out)
            return
        try:
            for choice in event["choices"]:
                self.said.take(choice)
                self._take(choice)
        finally:
            # What came before a failure in the same event is still sent.
            if self.tokens_seen:
                out.append(self._answer.take())
        if usage := event.get("usage"):
            self.counted = usage

    def _done(self) -> bytes:
        super()._done()
        if self.usage is not None:
            self._answer.usage += self.usage
        return b""

    def _take(self, choice: JSON) -> None:
        delta = choice["delta"]
        if thought := delta.get("reasoning"):
            self.tokens_seen = True
            self._answer.think(thought)
        if self._wants_logprobs:
            self._note(choice)
        if text := delta.get("content"):
            self._say(text)
        if calls := delta.get("tool_calls"):
            self.tokens_seen = True
            self._tell_calls(self._calls.feed(calls))
        if choice.get("finish_reason") is not None:
            self._finish(choice)

    def _note(self, choice: JSON) -> None:
        if choice["delta"].get("reasoning") or choice["delta"].get("tool_calls"):
            self._logprobs = []
            return
        found = chat_logprobs(choice.get("logprobs"))
        if found is not None:
            self._logprobs += [_logprob(one) for one in found["content"]]

    def _say(self, text: str) -> None:
        self.tokens_seen = True
        if type(self._answer.item) is not Message:
            text, self._blank = self._blank + text, ""
            if text.isspace():
                self._blank = text
                return
        self._say_now(text)

    def _say_now(self, text: str) -> None:
        logprobs, self._logprobs = self._logprobs, []
        self._answer.say(text, logprobs)

    def _tell_calls(self, deltas: list[JSON]) -> None:
        for delta in deltas:
            place: int = delta["index"]
            function = delta["function"]
            if "id" in delta:
                self._blank, self._logprobs = "", []
                self._call = (place, self._begin(delta["id"], function["name"]))
            if self._call is None or self._call != (place, self._answer.item):
                raise EngineError("the model's process mixed the calls of this answer")
            if arguments := function["arguments"]:
                self._call[1].add(arguments)

    def _begin(self, call_id: str, name: str) -> CallItem:
        offered = self._server_tools.get(name)
        if offered is not None:
            return self._answer.call_server(offered)
        space, own = self._namespaces.get(name, (None, name))
        return self._answer.call(call_id, own, space, custom=name in self._custom_tools)

    def _finish(self, choice: JSON) -> None:
        self._end(choice["index"], str(choice["finish_reason"]))
        reason = chat_finish(
            str(choice["finish_reason"]),
            called=self._calls.called,
            forced=self.shape.forced_tool,
        )
        self._tell_calls(self._calls.finish("length" if reason in CUT else reason))
        if self._blank and not self._answer.spoken and self._answer.item is None:
            self._say_now(self._blank)
        self._answer.reason = reason
        self._answer.close(item_status(reason))


def _logprob(one: JSON) -> JSON:
    """A token's logprob, every field there as the API requires."""
    return {**_bytes(one), "top_logprobs": [_bytes(top) for top in one.get("top_logprobs", ())]}


def _bytes(one: JSON) -> JSON:
    bytes_ = one["bytes"]
    if bytes_ is None:
        bytes_ = list(one["token"].encode())
    return {"token": one["token"], "bytes": bytes_, "logprob": one["logprob"]}
