"""The messages of a chat: roles, contents and replayed answers, as the engine takes them.

Messages that need no change go to the engine as the objects that came. What an SDK replays with
an assistant's answer (`annotations`, `audio: null`, `reasoning_content`…) is taken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults, media

MESSAGES_MAX: Final = 4096
PARTS_MAX: Final = 1024
"""Content parts in one message."""
CALLS_MAX: Final = 128
"""Tool calls in one message, and tools in one request."""
NAME_MAX_CHARS: Final = 256
ID_MAX_CHARS: Final = 256

MEDIA: Final = "only text, and images in a user's message, are taken."

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Checked messages, their texts in order, the texts' size in UTF-8, and their images."""

    messages: list[JSON]
    texts: list[str]
    size_bytes: int
    images: int = 0


def read_messages(value: Any, param: str) -> Conversation:
    """Check every message; raises InvalidRequest with the path of the value at fault."""
    checks.array(value, param, MESSAGES_MAX, 1)
    messages = []
    texts: list[str] = []
    for place, message in enumerate(value):
        if type(message) is not dict:
            raise faults.wrong_type(f"{param}[{place}]", "an object", message)
        role = message.get("role")
        read = _ROLES.get(role) if type(role) is str else None
        if read is None:
            raise _bad_role(message, f"{param}[{place}]")
        messages.append(read(message, place, texts))
    size = 0
    for text in texts:
        size += len(text) if text.isascii() else checks.size_bytes(text, param)
    return Conversation(messages, texts, size, media.images_in(messages))


def _bad_role(message: JSON, path: str) -> Exception:
    role = message.get("role")
    if role is None:
        return faults.missing(f"{path}.role")
    if type(role) is not str:
        return faults.wrong_type(f"{path}.role", "a string", role)
    if role == "function":
        return faults.unsupported_value(
            f"{path}.role", role, "it is deprecated; send a `tool` message with a `tool_call_id`."
        )
    return faults.not_one_of(f"{path}.role", role, _ROLES)


def _check_keys(message: JSON, path: str, known: frozenset[str]) -> None:
    """Another role's fields may be there as null: clients dump one class for all roles."""
    for key, value in message.items():
        if key not in known and (value is not None or key not in _ASSISTANT_KEYS | _TOOL_KEYS):
            raise faults.unknown(f"{path}.{key}", known)


def _plain(message: JSON, place: int, texts: list[str]) -> JSON:
    """A developer, system or user message."""
    content = message.get("content")
    if type(content) is str and len(message) == 2:
        texts.append(content)
        return message
    path = f"messages[{place}]"
    _check_keys(message, path, _PLAIN_KEYS)
    kinds = _TEXT_OR_IMAGE if message["role"] == "user" else _TEXT_ONLY
    kept = {"role": message["role"], "content": _content(content, path, texts, kinds)}
    return _named(message, kept, path)


def _tool(message: JSON, place: int, texts: list[str]) -> JSON:
    path = f"messages[{place}]"
    _check_keys(message, path, _TOOL_KEYS)
    kept = {
        "role": "tool",
        "tool_call_id": _required_text(message, "tool_call_id", path, ID_MAX_CHARS),
        "content": _content(message.get("content"), path, texts, _TEXT_ONLY),
    }
    return _named(message, kept, path)


def _assistant(message: JSON, place: int, texts: list[str]) -> JSON:
    content = message.get("content")
    if type(content) is str and len(message) == 2:
        texts.append(content)
        return message
    path = f"messages[{place}]"
    _check_keys(message, path, _ASSISTANT_KEYS)
    if message.get("function_call") is not None:
        raise faults.unsupported(
            f"{path}.function_call", "it is deprecated; send the call in `tool_calls`."
        )
    if message.get("audio") is not None:
        raise faults.unsupported(f"{path}.audio", "models served here take text only.")
    if (annotations := message.get("annotations")) is not None:
        checks.array(annotations, f"{path}.annotations", PARTS_MAX)
    kept: JSON = {"role": "assistant"}
    calls = message.get("tool_calls")
    if calls is not None and (checked := _calls(calls, f"{path}.tool_calls")):
        kept["tool_calls"] = checked
    if reasoning := _reasoning(message, path):
        kept["reasoning"] = reasoning
    said = _said(message, path, texts)
    if said is None and len(kept) == 1:
        raise faults.missing(f"{path}.content")
    kept["content"] = said
    return _named(message, kept, path)


def _said(message: JSON, path: str, texts: list[str]) -> Any:
    """What an assistant said: its content, then its refusal, or None."""
    content = message.get("content")
    said = None if content is None else _content(content, path, texts, _TEXT_OR_REFUSAL)
    refusal = message.get("refusal")
    if refusal is None:
        return said
    if type(refusal) is not str:
        raise faults.wrong_type(f"{path}.refusal", "a string", refusal)
    texts.append(refusal)
    if not said:
        return refusal
    parts = said if type(said) is list else [{"type": "text", "text": said}]
    return [*parts, {"type": "text", "text": refusal}]


def _reasoning(message: JSON, path: str) -> str | None:
    """Clients replay it under either name; the engine knows `reasoning`."""
    found: str | None = None
    for key in ("reasoning_content", "reasoning"):
        value = message.get(key)
        if value is not None and type(value) is not str:
            raise faults.wrong_type(f"{path}.{key}", "a string", value)
        found = value or found
    if found is not None:
        checks.size_bytes(found, path)
    return found


def _calls(value: Any, param: str) -> list[JSON]:
    checks.array(value, param, CALLS_MAX)
    return [_call(call, f"{param}[{place}]") for place, call in enumerate(value)]


def _call(call: Any, path: str) -> JSON:
    checks.keys(call, path, _CALL_KEYS)
    kind = call.get("type", "function")
    if kind != "function":
        raise faults.unsupported_value(f"{path}.type", kind, "only `function` calls.")
    function = call.get("function")
    if function is None:
        raise faults.missing(f"{path}.function")
    checks.keys(function, f"{path}.function", _CALL_FUNCTION_KEYS)
    return {
        "id": _required_text(call, "id", path, ID_MAX_CHARS),
        "type": "function",
        "function": {
            "name": _required_text(function, "name", f"{path}.function", NAME_MAX_CHARS),
            "arguments": _required_text(function, "arguments", f"{path}.function", None),
        },
    }


def _content(value: Any, path: str, texts: list[str], kinds: Mapping[str, str]) -> Any:
    """A string, or parts with what only a hosted cache would read taken off."""
    if type(value) is str:
        texts.append(value)
        return value
    path = f"{path}.content"
    if value is None:
        raise faults.missing(path)
    if type(value) is not list:
        raise faults.wrong_type(path, "a string or an array of content parts", value)
    checks.array(value, path, PARTS_MAX, 1)
    return [_part(part, f"{path}[{place}]", texts, kinds) for place, part in enumerate(value)]


def _part(part: Any, path: str, texts: list[str], kinds: Mapping[str, str]) -> JSON:
    if type(part) is not dict:
        raise faults.wrong_type(path, "an object", part)
    kind = part.get("type")
    if kind is None:
        raise faults.missing(f"{path}.type")
    key = kinds.get(kind) if type(kind) is str else None
    if key is None:
        raise _bad_part(kind, f"{path}.type", kinds)
    if key == "image_url":
        return media.read_chat_image(part, path)
    for name in part:
        if name not in {"type", key, "prompt_cache_breakpoint"}:
            raise faults.unknown(f"{path}.{name}", ("type", key))
    text = part.get(key)
    if text is None:
        raise faults.missing(f"{path}.{key}")
    if type(text) is not str:
        raise faults.wrong_type(f"{path}.{key}", "a string", text)
    texts.append(text)
    return {"type": "text", "text": text}


def _bad_part(kind: Any, path: str, kinds: Mapping[str, str]) -> Exception:
    if type(kind) is str and kind in _MEDIA_PARTS:
        return faults.unsupported_value(path, kind, MEDIA)
    return faults.not_one_of(path, kind, kinds)


def _named(message: JSON, kept: JSON, path: str) -> JSON:
    name = message.get("name")
    if name is not None:
        kept["name"] = checks.text(name, f"{path}.name", NAME_MAX_CHARS, 1)
    return kept


def _required_text(owner: JSON, key: str, path: str, maximum_chars: int | None) -> str:
    value = owner.get(key)
    if value is None:
        raise faults.missing(f"{path}.{key}")
    limit = checks.INT32_MAX if maximum_chars is None else maximum_chars
    return checks.text(value, f"{path}.{key}", limit, 0 if maximum_chars is None else 1)


_MEDIA_PARTS: Final = frozenset(
    {"image_url", "input_audio", "file", "audio_url", "video_url", "input_image", "input_file"}
)
_TEXT_ONLY: Final[Mapping[str, str]] = {"text": "text"}
_TEXT_OR_IMAGE: Final[Mapping[str, str]] = {"text": "text", "image_url": "image_url"}
_TEXT_OR_REFUSAL: Final[Mapping[str, str]] = {"text": "text", "refusal": "refusal"}
_PLAIN_KEYS: Final = frozenset({"role", "content", "name"})
_TOOL_KEYS: Final = frozenset({"role", "content", "tool_call_id", "name"})
_ASSISTANT_KEYS: Final = frozenset(
    {"role", "content", "name", "refusal", "audio", "annotations", "function_call", "tool_calls",
     "reasoning", "reasoning_content"}
)  # fmt: skip
_CALL_KEYS: Final = frozenset({"id", "type", "function", "index"})
_CALL_FUNCTION_KEYS: Final = frozenset({"name", "arguments"})
_ROLES: Final[Mapping[str, Callable[[JSON, int, list[str]], JSON]]] = {
    "developer": _plain,
    "system": _plain,
    "user": _plain,
    "assistant": _assistant,
    "tool": _tool,
}
