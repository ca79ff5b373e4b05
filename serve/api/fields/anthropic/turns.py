"""Anthropic's messages and content blocks, as the messages of a chat.

Turns of one role that follow each other become one, as the Messages API has it; tool results
become messages of their own, before what the user says beside them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from serve.api.fields import checks, faults, media
from serve.api.fields.messages import (
    CALLS_MAX,
    ID_MAX_CHARS,
    JSON,
    MESSAGES_MAX,
    PARTS_MAX,
    Conversation,
)

CALL_NAME_MAX_CHARS: Final = 128
FAILED: Final = "Error: "
"""What stands before a tool's result that is an error: a chat's tool message cannot say it."""
BILLING: Final = "x-anthropic-billing-header"
"""Claude Code puts a line for Anthropic's accounting into the system prompt. It differs in every
request, so that no prefix would ever be found in the cache."""

_TEXT_ONLY: Final = "only text, and images in a user's turn, are taken."
_NO_SERVER_TOOLS: Final = "this server runs no tools for this API."
_REFUSED: Final[Mapping[str, str]] = {
    "image": _TEXT_ONLY,
    "document": _TEXT_ONLY,
    "search_result": "put it into a text block.",
    "container_upload": "there are no containers here.",
    "tool_reference": "there is no tool search here; list the tools in `tools`.",
    "browser_state": _TEXT_ONLY,
    "server_tool_use": _NO_SERVER_TOOLS,
    "mcp_tool_use": _NO_SERVER_TOOLS,
    "mcp_tool_result": _NO_SERVER_TOOLS,
    "web_search_tool_result": _NO_SERVER_TOOLS,
    "web_fetch_tool_result": _NO_SERVER_TOOLS,
    "code_execution_tool_result": _NO_SERVER_TOOLS,
    "bash_code_execution_tool_result": _NO_SERVER_TOOLS,
    "text_editor_code_execution_tool_result": _NO_SERVER_TOOLS,
    "tool_search_tool_result": _NO_SERVER_TOOLS,
    "compaction": "conversations are not compacted here.",
    "tool_addition": "list the tools in `tools`.",
    "tool_removal": "list the tools in `tools`.",
}


class _Chat:
    """The chat so far. Texts are kept apart until the end: one turn may have thousands."""

    def __init__(self) -> None:
        self.messages: list[JSON] = []
        self.texts: list[str] = []

    def turn(self, role: str) -> JSON:
        """The message that what this role says goes into."""
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": []})
        return self.messages[-1]

    def show(self, image: JSON) -> None:
        self.turn("user")["content"].append(image)

    def say(self, role: str, text: str) -> None:
        self.texts.append(text)
        self.turn(role)["content"].append(text)

    def finish(self) -> Conversation:
        size = 0
        for text in self.texts:
            size += len(text) if text.isascii() else checks.size_bytes(text, "messages")
        messages = [_joined(message) for message in self.messages]
        return Conversation(messages, self.texts, size, media.images_in(messages))


def _joined(message: JSON) -> JSON:
    content = message["content"]
    if message["role"] != "assistant":
        if all(type(one) is str for one in content):
            return {**message, "content": "\n".join(content)}
        parts = [{"type": "text", "text": one} if type(one) is str else one for one in content]
        return {**message, "content": parts}
    text = "".join(content)
    joined = {**message, "content": text if text or "tool_calls" not in message else None}
    if "reasoning" in message:
        joined["reasoning"] = "".join(message["reasoning"])
    return joined


def read_turns(value: Any, param: str) -> Conversation:
    """Check every message; raises InvalidRequest with the path of the value at fault."""
    checks.array(value, param, MESSAGES_MAX, 1)
    chat = _Chat()
    for place, message in enumerate(value):
        path = f"{param}[{place}]"
        if type(message) is not dict:
            raise faults.wrong_type(path, "an object", message)
        checks.keys(message, path, frozenset({"role", "content"}))
        role = message.get("role")
        if role is None:
            raise faults.missing(f"{path}.role")
        read = _ROLES.get(role) if type(role) is str else None
        if read is None:
            raise faults.not_one_of(f"{path}.role", role, _ROLES)
        read(chat, message.get("content"), f"{path}.content")
    return chat.finish()


def read_system(value: Any, param: str) -> str:
    """The system prompt, a string or text blocks; empty where nothing is left of it."""
    blocks = [value] if type(value) is str else _texts(value, param)
    return "\n".join(one for one in blocks if not one.startswith(BILLING))


def _texts(value: Any, path: str) -> list[str]:
    """The texts of an array of text blocks."""
    if type(value) is not list:
        raise faults.wrong_type(path, "a string or an array of content blocks", value)
    checks.array(value, path, PARTS_MAX)
    found = []
    for place, block in enumerate(value):
        inner = f"{path}[{place}]"
        _kind(block, inner, ("text",))
        found.append(_text(block, inner))
    return found


def _kind(block: Any, path: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """The type of a content block, one of those that may be here."""
    if type(block) is not dict:
        raise faults.wrong_type(path, "an object", block)
    kind = block.get("type")
    if kind is None:
        raise faults.missing(f"{path}.type")
    if type(kind) is str and kind in known:
        return kind
    if type(kind) is str and kind in _REFUSED:
        raise faults.unsupported_value(f"{path}.type", kind, _REFUSED[kind])
    raise faults.not_one_of(f"{path}.type", kind, known)


def _user(chat: _Chat, content: Any, path: str) -> None:
    if type(content) is str:
        chat.say("user", content)
        return
    said: list[str | JSON] = []
    for block, inner in _blocks(content, path):
        match _kind(block, inner, ("text", "image", "tool_result")):
            case "text":
                said.append(_text(block, inner))
            case "image":
                said.append(_image(block, inner))
            case _:
                _tool_result(chat, block, inner)
    for one in said:
        if isinstance(one, str):
            chat.say("user", one)
        else:
            chat.show(one)


def _system(chat: _Chat, content: Any, path: str) -> None:
    if content is None:
        raise faults.missing(path)
    if text := read_system(content, path):
        chat.say("system", text)


def _assistant(chat: _Chat, content: Any, path: str) -> None:
    if type(content) is str:
        chat.say("assistant", content)
        return
    turn = chat.turn("assistant")
    for block, inner in _blocks(content, path):
        match _kind(block, inner, ("text", "thinking", "redacted_thinking", "tool_use")):
            case "text":
                chat.say("assistant", _text(block, inner))
            case "thinking":
                if thought := _thought(block, inner):
                    turn.setdefault("reasoning", []).append(thought)
            case "tool_use":
                call = _call(block, inner)
                chat.texts.append(call["function"]["arguments"])
                calls = turn.setdefault("tool_calls", [])
                calls.append(call)
                if len(calls) > CALLS_MAX:
                    raise faults.too_long(path, "array", CALLS_MAX, len(calls))
            case _:
                checks.keys(block, inner, _REDACTED_KEYS)


def _blocks(content: Any, path: str) -> list[tuple[Any, str]]:
    if content is None:
        raise faults.missing(path)
    if type(content) is not list:
        raise faults.wrong_type(path, "a string or an array of content blocks", content)
    checks.array(content, path, PARTS_MAX)
    return [(block, f"{path}[{place}]") for place, block in enumerate(content)]


def _text(block: JSON, path: str) -> str:
    _keys(block, path, _TEXT_KEYS)
    return _required(block, "text", path, checks.INT32_MAX)


def _image(block: JSON, path: str) -> JSON:
    _keys(block, path, _IMAGE_KEYS)
    source = block.get("source")
    path = f"{path}.source"
    if source is None:
        raise faults.missing(path)
    checks.keys(source, path, frozenset({"type", "media_type", "data", "url", "file_id"}))
    if source.get("type") != "base64":
        raise faults.unsupported_value(
            f"{path}.type",
            source.get("type"),
            "addresses are not fetched here; send the image itself, in `base64`.",
        )
    return media.image_part(
        media.read_image_data(source.get("media_type"), source.get("data"), path)
    )


def _thought(block: JSON, path: str) -> str:
    """Reasoning that a client sends back; whose signature it carries does not matter."""
    _keys(block, path, _THINKING_KEYS)
    signature = block.get("signature")
    if signature is not None and type(signature) is not str:
        raise faults.wrong_type(f"{path}.signature", "a string", signature)
    thought = _required(block, "thinking", path, checks.INT32_MAX)
    checks.size_bytes(thought, f"{path}.thinking")
    return thought


def _call(block: JSON, path: str) -> JSON:
    _keys(block, path, _TOOL_USE_KEYS)
    caller = block.get("caller")
    if caller is not None and (type(caller) is not dict or caller.get("type") != "direct"):
        raise faults.invalid(f"{path}.caller", "only calls of the model's own (`direct`).")
    given = block.get("input")
    if given is None:
        raise faults.missing(f"{path}.input")
    if type(given) is not dict:
        raise faults.wrong_type(f"{path}.input", "an object", given)
    try:
        arguments = orjson.dumps(given).decode()
    except (orjson.JSONEncodeError, RecursionError):
        raise faults.invalid(f"{path}.input", "nested too deeply, or not UTF-8.") from None
    return {
        "id": _required(block, "id", path, ID_MAX_CHARS),
        "type": "function",
        "function": {
            "name": _required(block, "name", path, CALL_NAME_MAX_CHARS),
            "arguments": arguments,
        },
    }


def _tool_result(chat: _Chat, block: JSON, path: str) -> None:
    _keys(block, path, _TOOL_RESULT_KEYS)
    failed = block.get("is_error")
    if failed is not None and type(failed) is not bool:
        raise faults.wrong_type(f"{path}.is_error", "a boolean", failed)
    content = block.get("content")
    if content is None:
        texts = []
    elif type(content) is str:
        texts = [content]
    else:
        texts = _texts(content, f"{path}.content")
    if failed:
        texts = [FAILED + "\n".join(texts)]
    chat.texts.extend(texts)
    call_id = _required(block, "tool_use_id", path, ID_MAX_CHARS)
    chat.messages.append({"role": "tool", "tool_call_id": call_id, "content": texts})


def _keys(block: JSON, path: str, known: frozenset[str]) -> None:
    checks.keys(block, path, known)
    if block.get("toolset_name") is not None:
        raise faults.unsupported(f"{path}.toolset_name", "there are no toolsets here.")
    check_cache_control(block.get("cache_control"), f"{path}.cache_control")


def check_cache_control(value: Any, param: str) -> None:
    """A mark of what to cache. Prefixes are shared by content here, marked or not."""
    if value is None:
        return
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    if value.get("type") != "ephemeral":
        raise faults.not_one_of(f"{param}.type", value.get("type"), ("ephemeral",))


def _required(owner: JSON, key: str, path: str, maximum_chars: int) -> str:
    value = owner.get(key)
    if value is None:
        raise faults.missing(f"{path}.{key}")
    return checks.text(value, f"{path}.{key}", maximum_chars)


_TEXT_KEYS: Final = frozenset({"type", "text", "cache_control", "citations"})
_IMAGE_KEYS: Final = frozenset({"type", "source", "cache_control"})
_THINKING_KEYS: Final = frozenset({"type", "thinking", "signature", "cache_control"})
_REDACTED_KEYS: Final = frozenset({"type", "data", "cache_control"})
_TOOL_USE_KEYS: Final = frozenset(
    {"type", "id", "name", "input", "cache_control", "caller", "toolset_name"}
)
_TOOL_RESULT_KEYS: Final = frozenset(
    {"type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name"}
)
_ROLES: Final[Mapping[str, Callable[[_Chat, Any, str], None]]] = {
    "user": _user,
    "assistant": _assistant,
    "system": _system,
}
