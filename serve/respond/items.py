"""One output item while it comes: its events, and what it is in the end.

An item's id says where it belongs (`id_of`, `response_id_of`), so that one which a client refers
to is found without an index.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

from serve.respond.custom import InputText
from serve.respond.sealed import seal

JSON = dict[str, Any]
Emit = Callable[[str, JSON], None]

_OWN_ID: Final = re.compile(r"[a-z]+_([0-9a-f]{32})[0-9a-f]{4}")


def id_of(prefix: str, response_id: str, place: int) -> str:
    """The id of the output item at this place of a response."""
    return f"{prefix}_{response_id.removeprefix('resp_')}{place:04x}"


def response_id_of(item_id: str) -> str | None:
    """The response that an output item with this id is of; None for ids of another form."""
    own = _OWN_ID.fullmatch(item_id)
    return None if own is None else f"resp_{own.group(1)}"


class OpenItem:
    """An item that has begun and not ended; the first of its events goes out as it is made."""

    def __init__(self, emit: Emit, place: int, item: JSON) -> None:
        self._emit = emit
        self._place = place
        self._item = item
        emit("response.output_item.added", {"output_index": place, "item": item})

    def finish(self, status: str) -> JSON:
        """Its last events, and the item as it is from now on."""
        raise TypeError(f"{type(self).__name__} has no end")

    def _say(self, kind: str, fields: JSON) -> None:
        here = {"item_id": self._item["id"], "output_index": self._place}
        self._emit(kind, here | fields)

    def _done(self, status: str, fields: JSON) -> JSON:
        item = {**self._item, **fields, "status": status}
        self._emit("response.output_item.done", {"output_index": self._place, "item": item})
        return item


class Message(OpenItem):
    """What the model says."""

    def __init__(self, emit: Emit, place: int, item_id: str) -> None:
        item = {"id": item_id, "type": "message", "status": "in_progress",
                "role": "assistant", "content": []}  # fmt: skip
        super().__init__(emit, place, item)
        self._texts: list[str] = []
        self._logprobs: list[JSON] = []
        self._say("response.content_part.added", {"content_index": 0, "part": self._part("")})

    def add(self, text: str, logprobs: list[JSON]) -> None:
        self._texts.append(text)
        self._logprobs += logprobs
        self._say(
            "response.output_text.delta",
            {"content_index": 0, "delta": text, "logprobs": logprobs},
        )

    def finish(self, status: str) -> JSON:
        text = "".join(self._texts)
        part = self._part(text)
        self._say(
            "response.output_text.done",
            {"content_index": 0, "text": text, "logprobs": self._logprobs},
        )
        self._say("response.content_part.done", {"content_index": 0, "part": part})
        return self._done(status, {"content": [part]})

    def _part(self, text: str) -> JSON:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self._logprobs}


class Reasoning(OpenItem):
    """What the model thinks, in its own words; `sealed` adds it as `encrypted_content` too."""

    def __init__(self, emit: Emit, place: int, item_id: str, *, sealed: bool) -> None:
        item = {"id": item_id, "type": "reasoning", "status": "in_progress",
                "summary": [], "content": []}  # fmt: skip
        super().__init__(emit, place, item)
        self._sealed = sealed
        self._texts: list[str] = []
        self._say("response.content_part.added", {"content_index": 0, "part": _thought("")})

    def add(self, text: str) -> None:
        self._texts.append(text)
        self._say("response.reasoning_text.delta", {"content_index": 0, "delta": text})

    def finish(self, status: str) -> JSON:
        text = "".join(self._texts)
        part = _thought(text)
        self._say("response.reasoning_text.done", {"content_index": 0, "text": text})
        self._say("response.content_part.done", {"content_index": 0, "part": part})
        sealed = {"encrypted_content": seal(text)} if self._sealed else {}
        return self._done(status, {"content": [part], **sealed})


class _Call(OpenItem):
    """A call of the client's; `kind` is the item's type, `told` the field that says with what."""

    kind: ClassVar[str]
    told: ClassVar[str]

    def __init__(
        self,
        emit: Emit,
        place: int,
        item_id: str,
        call_id: str,
        name: str,
        namespace: str | None = None,
    ) -> None:
        item = {"id": item_id, "type": self.kind, "status": "in_progress", "call_id": call_id,
                **_named(name, namespace), self.told: ""}  # fmt: skip
        super().__init__(emit, place, item)
        self._arguments: list[str] = []
        self._input = InputText()


class FunctionCall(_Call):
    """A call of a function of the client's."""

    kind = "function_call"
    told = "arguments"

    def add(self, arguments: str) -> None:
        self._arguments.append(arguments)
        self._say("response.function_call_arguments.delta", {"delta": arguments})

    def finish(self, status: str) -> JSON:
        arguments = "".join(self._arguments)
        done = {"name": self._item["name"], "arguments": arguments}
        self._say("response.function_call_arguments.done", done)
        return self._done(status, {"arguments": arguments})


class CustomCall(_Call):
    """A call of a tool whose input is free text."""

    kind = "custom_tool_call"
    told = "input"

    def add(self, arguments: str) -> None:
        self._send(self._input.feed(arguments))

    def finish(self, status: str) -> JSON:
        self._send(self._input.finish())
        text = self._input.text
        self._say("response.custom_tool_call_input.done", {"input": text})
        return self._done(status, {"input": text})

    def _send(self, text: str) -> None:
        if text:
            self._say("response.custom_tool_call_input.delta", {"delta": text})


def _named(name: str, namespace: str | None) -> JSON:
    return {"name": name} if namespace is None else {"name": name, "namespace": namespace}


def _thought(text: str) -> JSON:
    return {"type": "reasoning_text", "text": text}
