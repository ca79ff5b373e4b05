"""The input items of the Responses API: checked, and brought to the form the API shows.

Reading what was read before changes nothing: a client may send back every item it was shown.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import ID_MAX_CHARS, JSON, MESSAGES_MAX, NAME_MAX_CHARS
from serve.api.fields.responses.heads import head, status_of
from serve.api.fields.responses.parts import (
    known,
    read_input,
    read_output,
    read_said,
    read_summary,
    read_thought,
    read_user,
    required_text,
)
from serve.api.fields.responses.serveritems import (
    read_approval_request,
    read_approval_response,
    read_call,
    read_list,
)
from serve.respond.sealed import unseal

ITEMS_MAX: Final = MESSAGES_MAX

_HOSTED: Final = "there are no hosted tools here; give the model `function` tools."
_OWN_SHELL: Final = "give the model a `function` tool that runs commands."
_REFUSED: Final[Mapping[str, str]] = {
    "file_search_call": _HOSTED,
    "web_search_call": _HOSTED,
    "computer_call": _HOSTED,
    "computer_call_output": _HOSTED,
    "code_interpreter_call": _HOSTED,
    "image_generation_call": _HOSTED,
    "tool_search_call": _HOSTED,
    "tool_search_output": _HOSTED,
    "program": _HOSTED,
    "program_output": _HOSTED,
    "local_shell_call": _OWN_SHELL,
    "local_shell_call_output": _OWN_SHELL,
    "shell_call": _OWN_SHELL,
    "shell_call_output": _OWN_SHELL,
    "apply_patch_call": "give the model a `function` tool that edits files.",
    "apply_patch_call_output": "give the model a `function` tool that edits files.",
    "additional_tools": "list all tools in `tools`.",
    "configuration_update": "send `reasoning` and `text` with the request.",
    "compaction_trigger": "compact a conversation with `/v1/responses/compact`.",
}


def read_input_items(value: Any, param: str) -> tuple[JSON, ...]:
    """`input`: a string, which is one message of the user's, or an array of items."""
    if type(value) is str:
        return (_message({"role": "user", "content": value}, param),)
    if type(value) is not list:
        raise faults.wrong_type(param, "a string or an array of items", value)
    return read_items(value, param)


def read_items(value: Any, param: str, maximum: int = ITEMS_MAX) -> tuple[JSON, ...]:
    """Every item in its full form; raises InvalidRequest with the path of the value at fault."""
    checks.array(value, param, maximum)
    return tuple(_item(item, f"{param}[{place}]") for place, item in enumerate(value))


def _item(item: Any, path: str) -> JSON:
    if type(item) is not dict:
        raise faults.wrong_type(path, "an object", item)
    kind = item.get("type")
    if kind is None:
        kind = _untyped(item, path)
    read = _READERS.get(kind) if type(kind) is str else None
    if read is None:
        if type(kind) is str and kind in _REFUSED:
            raise faults.unsupported_value(f"{path}.type", kind, _REFUSED[kind])
        raise faults.not_one_of(f"{path}.type", kind, _READERS)
    return read(item, path)


def _untyped(item: JSON, path: str) -> str:
    """Messages and references may come without a type."""
    if item.get("role") is not None:
        return "message"
    if item.get("id") is not None and len(item) <= 2:
        return "item_reference"
    raise faults.missing(f"{path}.type")


def _message(item: JSON, path: str) -> JSON:
    known(item, path, _MESSAGE_KEYS)
    role = item.get("role")
    if role is None:
        raise faults.missing(f"{path}.role")
    if type(role) is not str or role not in _CONTENTS:
        raise faults.not_one_of(f"{path}.role", role, _CONTENTS)
    kept = head(item, path, "message")
    kept["status"] = status_of(item, path)
    kept["role"] = role
    kept["content"] = _CONTENTS[role](item.get("content"), f"{path}.content")
    phase = item.get("phase")
    if phase is not None:
        if phase not in _PHASES:
            raise faults.not_one_of(f"{path}.phase", phase, _PHASES)
        if role == "assistant":
            kept["phase"] = phase
    return kept


def _function_call(item: JSON, path: str) -> JSON:
    return _call(item, path, "function_call", "arguments")


def _custom_call(item: JSON, path: str) -> JSON:
    return _call(item, path, "custom_tool_call", "input")


def _call(item: JSON, path: str, kind: str, key: str) -> JSON:
    known(item, path, _CALL_KEYS | {key})
    _direct(item, path)
    kept = head(item, path, kind)
    kept["status"] = status_of(item, path)
    kept["call_id"] = required_text(item, "call_id", path, ID_MAX_CHARS)
    kept["name"] = required_text(item, "name", path, NAME_MAX_CHARS)
    if item.get("namespace") is not None:
        kept["namespace"] = required_text(item, "namespace", path, NAME_MAX_CHARS)
    kept[key] = required_text(item, key, path)
    return kept


def _function_output(item: JSON, path: str) -> JSON:
    return _output(item, path, "function_call_output")


def _custom_output(item: JSON, path: str) -> JSON:
    return _output(item, path, "custom_tool_call_output")


def _output(item: JSON, path: str, kind: str) -> JSON:
    known(item, path, _OUTPUT_KEYS)
    _direct(item, path)
    kept = head(item, path, kind)
    kept["status"] = status_of(item, path)
    kept["call_id"] = required_text(item, "call_id", path, ID_MAX_CHARS)
    kept["output"] = read_output(item.get("output"), f"{path}.output")
    return kept


def _direct(item: JSON, path: str) -> None:
    """Only the model calls tools here, one by one."""
    caller = item.get("caller")
    if caller is not None and (type(caller) is not dict or caller.get("type") != "direct"):
        raise faults.unsupported_value(f"{path}.caller", caller, "only the model calls tools.")
    if item.get("async"):
        raise faults.unsupported(f"{path}.async", "every call waits for its output.")


def _reasoning(item: JSON, path: str) -> JSON:
    known(item, path, _REASONING_KEYS)
    kept = head(item, path, "reasoning")
    kept["status"] = status_of(item, path)
    kept["summary"] = read_summary(item.get("summary"), f"{path}.summary")
    kept["content"] = read_thought(item.get("content"), f"{path}.content")
    sealed = item.get("encrypted_content")
    if sealed is not None:
        checks.text(sealed, f"{path}.encrypted_content", checks.INT32_MAX)
        # Another server's reasoning cannot be read; the conversation goes on without it.
        if unseal(sealed) is not None:
            kept["encrypted_content"] = sealed
    return kept


def _compaction(item: JSON, path: str) -> JSON:
    known(item, path, frozenset({"id", "type", "encrypted_content", "created_by"}))
    kept = head(item, path, "compaction")
    sealed = kept["encrypted_content"] = required_text(item, "encrypted_content", path)
    if unseal(sealed) is None:
        raise faults.invalid(
            f"{path}.encrypted_content", "only what this server compacted can be read here."
        )
    return kept


def _reference(item: JSON, path: str) -> JSON:
    known(item, path, frozenset({"id", "type"}))
    return {"type": "item_reference", "id": required_text(item, "id", path, ID_MAX_CHARS)}


_CONTENTS: Final = {
    "user": read_user,
    "assistant": read_said,
    "system": read_input,
    "developer": read_input,
}
"""What reads a message's content, by its role."""
_PHASES: Final = ("commentary", "final_answer")
_MESSAGE_KEYS: Final = frozenset({"id", "type", "status", "role", "content", "phase"})
# `parsed_arguments` is what an SDK adds to a call that it has read as JSON.
_CALL_KEYS: Final = frozenset(
    {"id", "type", "status", "call_id", "name", "caller", "namespace", "async", "created_by",
     "parsed_arguments"}
)  # fmt: skip
_OUTPUT_KEYS: Final = frozenset(
    {"id", "type", "status", "call_id", "output", "name", "caller", "namespace", "created_by"}
)
_REASONING_KEYS: Final = frozenset(
    {"id", "type", "status", "summary", "content", "encrypted_content"}
)
_READERS: Final[Mapping[str, Callable[[JSON, str], JSON]]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _custom_output,
    "reasoning": _reasoning,
    "item_reference": _reference,
    "compaction": _compaction,
    "mcp_call": read_call,
    "mcp_list_tools": read_list,
    "mcp_approval_request": read_approval_request,
    "mcp_approval_response": read_approval_response,
}
