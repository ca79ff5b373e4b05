"""A streamed chat answer put together again, as the object that it would have been unstreamed."""

from dataclasses import dataclass, field

from serve.core.usage import Usage
from serve.stream.answer import JSON, Shape
from serve.stream.chunks import ChatChunks


@dataclass(slots=True)
class _Choice:
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, JSON] = field(default_factory=dict)
    arguments: dict[int, list[str]] = field(default_factory=dict)
    logprobs: list[JSON] = field(default_factory=list)
    finish_reason: str | None = None

    def take(self, shaped: JSON) -> None:
        """One choice of a chunk, as it is sent."""
        delta = shaped["delta"]
        if content := delta.get("content"):
            self.content.append(content)
        if reasoning := delta.get("reasoning"):
            self.reasoning.append(reasoning)
        for call in delta.get("tool_calls", ()):
            self._call(call)
        if (logprobs := shaped["logprobs"]) is not None:
            self.logprobs += logprobs["content"]
        self.finish_reason = shaped["finish_reason"] or self.finish_reason

    def _call(self, call: JSON) -> None:
        index: int = call["index"]
        function = call["function"]
        if "id" in call:
            self.calls[index] = {"id": call["id"], "name": function["name"]}
            self.arguments[index] = []
        self.arguments[index].append(function["arguments"])

    def whole(self, index: int) -> JSON:
        """A choice of the answer."""
        content, reasoning = "".join(self.content), "".join(self.reasoning)
        message: JSON = {
            "role": "assistant",
            "content": content or (None if self.calls or reasoning else ""),
            "refusal": None,
            "annotations": [],
        }
        if self.calls:
            message["tool_calls"] = [self._whole_call(place) for place in sorted(self.calls)]
        if reasoning:
            message["reasoning"] = message["reasoning_content"] = reasoning
        logprobs = self.logprobs
        return {
            "index": index,
            "message": message,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": self.finish_reason,
        }

    def _whole_call(self, place: int) -> JSON:
        call, arguments = self.calls[place], "".join(self.arguments[place])
        function = {"name": call["name"], "arguments": arguments}
        return {"id": call["id"], "type": "function", "function": function}


class AssembledChunks(ChatChunks):
    """The frames of a chat stream, and once it has finished the whole of it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self._whole: dict[int, _Choice] = {}

    def answer(self) -> JSON:
        """The `chat.completion` object; only when `finished`."""
        return {
            "id": self.shape.id,
            "object": "chat.completion",
            "created": self.shape.created,
            "model": self.shape.model,
            "choices": [self._whole[index].whole(index) for index in sorted(self._whole)],
            "usage": (self.usage or Usage()).openai(),
            "service_tier": self.shape.tier,
            "system_fingerprint": self.shape.fingerprint,
            **self.shape.echo,
        }

    def _choice(self, choice: JSON) -> JSON | None:
        shaped = super()._choice(choice)
        if shaped is not None:
            self._whole.setdefault(shaped["index"], _Choice()).take(shaped)
        return shaped
