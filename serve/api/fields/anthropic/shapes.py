"""The nested values of a Messages request in JSON Schema: turns, tools, forms of the answer."""

from typing import Final

from serve.api.fields.anthropic.tools import TOOLS_MAX
from serve.api.fields.anthropic.turns import CALL_NAME_MAX_CHARS
from serve.api.fields.chatshapes import JSON_SCHEMA
from serve.api.fields.messages import ID_MAX_CHARS, MESSAGES_MAX, PARTS_MAX
from serve.api.fields.shapes import (
    ANYTHING,
    BOOLEAN,
    NULL,
    OBJECT,
    STRING,
    Schema,
    array,
    closed,
    either,
    integer,
    kinds,
    text,
    words,
)
from serve.api.fields.tools import DESCRIPTION_MAX_CHARS

_NAME: Final[Schema] = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,128}$"}
CACHE_CONTROL: Final[Schema] = {
    **OBJECT,
    "properties": {**kinds("ephemeral"), "ttl": ANYTHING},
    "required": ["type"],
}
_CACHED: Final = {"cache_control": CACHE_CONTROL}
_KEPT: Final = {**_CACHED, "toolset_name": NULL}
_TEXT: Final = closed({**kinds("text"), "text": STRING}, {**_CACHED, "citations": ANYTHING})
_TEXTS: Final = either(STRING, array(_TEXT, PARTS_MAX))
_IMAGE: Final = closed(
    {
        **kinds("image"),
        "source": closed(
            {
                **kinds("base64"),
                "media_type": words("image/png", "image/jpeg", "image/gif", "image/webp"),
                "data": STRING,
            },
            {"url": ANYTHING, "file_id": ANYTHING},
        ),
    },
    _CACHED,
)
_RESULT: Final = closed(
    {**kinds("tool_result"), "tool_use_id": text(ID_MAX_CHARS)},
    {**_KEPT, "content": _TEXTS, "is_error": BOOLEAN},
)
_CALL: Final = closed(
    {
        **kinds("tool_use"),
        "id": text(ID_MAX_CHARS),
        "name": text(CALL_NAME_MAX_CHARS),
        "input": OBJECT,
    },
    {**_KEPT, "caller": OBJECT},
)
_THINKING: Final = closed(
    {**kinds("thinking"), "thinking": STRING}, {**_CACHED, "signature": STRING}
)
_REDACTED: Final = closed(kinds("redacted_thinking"), {**_CACHED, "data": ANYTHING})


def _turn(role: str, content: Schema) -> Schema:
    return closed({"role": words(role), "content": content})


MESSAGES: Final = array(
    either(
        _turn("user", either(STRING, array(either(_TEXT, _IMAGE, _RESULT), PARTS_MAX))),
        _turn(
            "assistant",
            either(STRING, array(either(_TEXT, _THINKING, _REDACTED, _CALL), PARTS_MAX)),
        ),
        _turn("system", _TEXTS),
    ),
    MESSAGES_MAX,
    1,
)
SYSTEM: Final = _TEXTS
_TOOL: Final = closed(
    {"name": _NAME, "input_schema": JSON_SCHEMA},
    {
        **kinds("custom"),
        **_CACHED,
        "description": text(DESCRIPTION_MAX_CHARS),
        "strict": BOOLEAN,
        "eager_input_streaming": BOOLEAN,
        "defer_loading": {"enum": [False]},
        "input_examples": ANYTHING,
        "allowed_callers": {"enum": [["direct"]]},
    },
)
TOOLS: Final = array(_TOOL, TOOLS_MAX)
_PARALLEL: Final = {"disable_parallel_tool_use": BOOLEAN}
CHOICE: Final = either(
    closed(kinds("auto", "any", "none"), {**_PARALLEL, "name": ANYTHING}),
    closed({**kinds("tool"), "name": _NAME}, _PARALLEL),
)
_SHOWN: Final = {"display": words("summarized", "omitted")}


def thinking(minimum_tokens: int) -> Schema:
    return either(
        closed(kinds("disabled")),
        closed(kinds("adaptive"), _SHOWN),
        closed(
            {**kinds("enabled"), "budget_tokens": integer(minimum_tokens, 2**31 - 1)},
            _SHOWN,
        ),
    )


OUTPUT_FORMAT: Final = closed({**kinds("json_schema"), "schema": JSON_SCHEMA})


def output_config(*efforts: str) -> Schema:
    return closed({}, {"effort": words(*efforts), "format": OUTPUT_FORMAT, "task_budget": NULL})


DIAGNOSTICS: Final = closed({}, {"previous_message_id": ANYTHING})


def edits(kind: str, most: int) -> Schema:
    """`context_management`."""
    edit = {**OBJECT, "properties": kinds(kind), "required": ["type"]}
    return closed({}, {"edits": array(edit, most)})


def user(maximum_chars: int) -> Schema:
    """`metadata`."""
    return closed({}, {"user_id": text(maximum_chars)})
