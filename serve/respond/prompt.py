"""The items of a conversation as the messages of a chat, for the engine.

The same items always give the same messages, so that a conversation that goes on finds its
prefix in the engine's cache. What one turn of the model gave as several items (reasoning, text,
calls) becomes the one message it was sampled as.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from serve.core.errors import InvalidRequest
from serve.respond.offer import engine_name
from serve.respond.outcome import arguments_of, requests_of, result_of
from serve.respond.sealed import unseal

JSON = dict[str, Any]

COMPACTED: Final = "Summary of the conversation so far:\n\n"
"""What stands before the text of a compaction item."""


def messages_of(instructions: str | None, items: Sequence[JSON]) -> list[JSON]:
    """Items in the API's full form, in order, as messages of a chat completion.

    `instructions` come first, as the system's. Raises InvalidRequest, with the hosted API's
    words, for a call without its output, an output without its call, an approval of nothing,
    and a reference that was not looked up.
    """
    _check_calls(items)
    chat = _Chat(requests_of(items))
    if instructions:
        chat.add({"role": "system", "content": instructions})
    for item in items:
        _ADDERS[item["type"]](chat, item)
    return chat.finish()


def texts_of(messages: Iterable[JSON]) -> list[str]:
    """The texts of the messages, in order, for the context guard.

    Reasoning is left out, because templates leave out that of earlier turns, and arguments are,
    because templates write them in their own way: the guard's count is never above the truth.
    """
    return list(_texts(messages))


def images_of(messages: Iterable[JSON]) -> int:
    """How many images the messages hold."""
    contents = (message["content"] for message in messages)
    return sum(
        part["type"] == "image_url" for parts in contents if type(parts) is list for part in parts
    )


def _texts(messages: Iterable[JSON]) -> Iterator[str]:
    for message in messages:
        content = message["content"]
        if type(content) is str:
            yield content
        elif content is not None:
            for part in content:
                if part["type"] == "text":
                    yield part["text"]
        for call in message.get("tool_calls", ()):
            yield call["function"]["name"]


@dataclass(slots=True)
class _Turn:
    """One message of the assistant's while its items come in."""

    reasoning: list[str] = field(default_factory=list)
    content: Any = None
    calls: list[JSON] = field(default_factory=list)

    @property
    def thinks_only(self) -> bool:
        return self.content is None and not self.calls


class _Chat:
    """The messages so far, and the assistant's that may still go on.

    `requests` are the items that ask for approval, by their ids.
    """

    def __init__(self, requests: Mapping[str, JSON]) -> None:
        self.requests = requests
        self._messages: list[JSON] = []
        self._turn: _Turn | None = None

    def add(self, message: JSON) -> None:
        self._close()
        self._messages.append(message)

    def think(self, text: str) -> None:
        self._begun().reasoning.append(text)

    def say(self, content: Any) -> None:
        self._begun().content = content

    def call(self, call_id: str, name: str, arguments: str) -> None:
        turn = self._turn = self._turn or _Turn()
        turn.calls.append(
            {
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )

    def finish(self) -> list[JSON]:
        self._close()
        return self._messages

    def _begun(self) -> _Turn:
        """A turn that has said nothing yet: reasoning and text come before calls, once."""
        if self._turn is None or not self._turn.thinks_only:
            self._close()
            self._turn = _Turn()
        return self._turn

    def _close(self) -> None:
        turn, self._turn = self._turn, None
        # Reasoning that was cut off before it led to anything is no message.
        if turn is None or turn.thinks_only:
            return
        message: JSON = {"role": "assistant", "content": turn.content}
        if turn.reasoning:
            message["reasoning"] = "\n".join(turn.reasoning)
        if turn.calls:
            message["tool_calls"] = turn.calls
        self._messages.append(message)


def _message(chat: _Chat, item: JSON) -> None:
    content = _content(item["content"])
    if item["role"] == "assistant":
        chat.say(content)
    else:
        chat.add({"role": item["role"], "content": content})


def _content(parts: Any) -> Any:
    """One text as a string, several parts as the parts they were."""
    if type(parts) is str:
        return parts
    read = [_part(part) for part in parts]
    if len(read) < 2 and all(part["type"] == "text" for part in read):
        return read[0]["text"] if read else ""
    return read


def _part(part: JSON) -> JSON:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    return {"type": "text", "text": part["refusal" if part["type"] == "refusal" else "text"]}


def _reasoning(chat: _Chat, item: JSON) -> None:
    if text := _thought(item):
        chat.think(text)


def _thought(item: JSON) -> str:
    """The reasoning itself, whichever way it came back; a summary where there is nothing else."""
    if content := item.get("content"):
        return "".join(part["text"] for part in content)
    sealed = item.get("encrypted_content")
    text = unseal(sealed) if sealed else None
    return text or "\n\n".join(part["text"] for part in item.get("summary", ()))


def _function_call(chat: _Chat, item: JSON) -> None:
    chat.call(item["call_id"], _name(item), item["arguments"])


def _custom_call(chat: _Chat, item: JSON) -> None:
    arguments = orjson.dumps({"input": item["input"]}).decode()
    chat.call(item["call_id"], _name(item), arguments)


def _name(item: JSON) -> str:
    """What the engine calls the tool of a call."""
    space = item.get("namespace")
    return engine_name(space, item["name"]) if space is not None else str(item["name"])


def _output(chat: _Chat, item: JSON) -> None:
    chat.add(
        {
            "role": "tool",
            "tool_call_id": item["call_id"],
            "content": _content(item["output"]),
        }
    )


def _server_call(chat: _Chat, item: JSON) -> None:
    """A call that this server made itself: the model's call and the answer it was given."""
    _called(chat, item, result_of(item))


def _called(chat: _Chat, item: JSON, result: str) -> None:
    name = engine_name(item["server_label"], item["name"])
    # Engines read the arguments of earlier calls, and refuse what is no object.
    arguments = item["arguments"] if arguments_of(item["arguments"]) else "{}"
    chat.call(item["id"], name, arguments)
    chat.add({"role": "tool", "tool_call_id": item["id"], "content": result})


def _approval(chat: _Chat, item: JSON) -> None:
    """A call that was refused; one that was agreed to is an item of its own once it is made."""
    if not item["approve"]:
        reason = f" The reason: {item['reason']}" if item.get("reason") else ""
        request = chat.requests[item["approval_request_id"]]
        _called(chat, request, f"Error: the user did not allow this call.{reason}")


def _compaction(chat: _Chat, item: JSON) -> None:
    text = unseal(item["encrypted_content"])
    if text is None:
        raise InvalidRequest(
            f"The compaction item '{item['id']}' was not made by this server.", param="input"
        )
    chat.add({"role": "user", "content": COMPACTED + text})


def _reference(_chat: _Chat, item: JSON) -> None:
    raise InvalidRequest(f"Item with id '{item['id']}' not found.", param="input")


def _nothing(_chat: _Chat, _item: JSON) -> None:
    """A list of tools: the engine is given the tools themselves. A request for approval: what
    came of it says more."""


_ADDERS: Final[Mapping[str, Callable[[_Chat, JSON], None]]] = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _function_call,
    "function_call_output": _output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _output,
    "mcp_call": _server_call,
    "mcp_list_tools": _nothing,
    "mcp_approval_request": _nothing,
    "mcp_approval_response": _approval,
    "compaction": _compaction,
    "item_reference": _reference,
}

_CALLS: Final[Mapping[str, str]] = {
    "function_call": "function call",
    "custom_tool_call": "custom tool call",
}
_OUTPUTS: Final[Mapping[str, str]] = {f"{kind}_output": kind for kind in _CALLS}


def _check_calls(items: Sequence[JSON]) -> None:
    """Every call has its output, later; every output has its call, before."""
    called: set[tuple[str, str]] = set()
    waiting: dict[tuple[str, str], None] = {}
    for item in items:
        kind = item["type"]
        if kind in _CALLS:
            called.add((kind, item["call_id"]))
            waiting[kind, item["call_id"]] = None
        elif kind in _OUTPUTS:
            call = (_OUTPUTS[kind], item["call_id"])
            if call not in called:
                raise InvalidRequest(
                    f"No tool call found for {_CALLS[call[0]]} output with call_id {call[1]}.",
                    param="input",
                )
            waiting.pop(call, None)
    for kind, call_id in waiting:
        raise InvalidRequest(f"No tool output found for {_CALLS[kind]} {call_id}.", param="input")
