"""The nested values of a Responses request in JSON Schema: items, tools, forms of the answer."""

from typing import Final

from serve.api.fields.chatshapes import JSON_SCHEMA, NAMED_SCHEMA
from serve.api.fields.messages import ID_MAX_CHARS, NAME_MAX_CHARS, PARTS_MAX
from serve.api.fields.responses.items import ITEMS_MAX
from serve.api.fields.responses.options import (
    EFFORTS,
    INCLUDABLE,
    INCLUDE_MAX,
    SUMMARIES,
)
from serve.api.fields.responses.tools import LABEL_MAX_CHARS
from serve.api.fields.shapes import (
    ANYTHING,
    BOOLEAN,
    NAME,
    NULL,
    OBJECT,
    STRING,
    Schema,
    array,
    closed,
    either,
    kinds,
    loose,
    text,
    words,
)
from serve.api.fields.tools import DESCRIPTION_MAX_CHARS, TOOLS_MAX

_ID: Final = {"id": text(ID_MAX_CHARS, 1)}
_CALL_ID: Final = {"call_id": text(ID_MAX_CHARS, 1)}
_HEAD: Final = {**_ID, "status": words("in_progress", "completed", "incomplete")}
_CALLED: Final = {
    **_HEAD,
    "caller": loose(kinds("direct")) | {"additionalProperties": True},
    "namespace": text(NAME_MAX_CHARS, 1),
    "async": ANYTHING,
    "created_by": ANYTHING,
    "parsed_arguments": ANYTHING,
}


def _parts(*options: Schema) -> Schema:
    return array(either(*options), PARTS_MAX)


_INPUT_TEXT: Final = loose(
    {**kinds("input_text"), "text": STRING}, {"prompt_cache_breakpoint": ANYTHING}
)
_IMAGE: Final = loose(
    {**kinds("input_image"), "image_url": STRING},
    {
        "detail": words("auto", "low", "high", "original"),
        "file_id": NULL,
        "prompt_cache_breakpoint": ANYTHING,
    },
)
_OUTPUT_TEXT: Final = loose(
    {**kinds("output_text"), "text": STRING},
    {"annotations": array(OBJECT, PARTS_MAX), "logprobs": array(ANYTHING), "parsed": ANYTHING},
)
_REFUSAL: Final = loose({**kinds("refusal"), "refusal": STRING})
_OUTPUT: Final = either(STRING, _parts(_INPUT_TEXT))


def _message(roles: Schema, *parts: Schema) -> Schema:
    return loose(
        {"role": roles, "content": either(STRING, _parts(*parts))},
        {**kinds("message"), **_HEAD, "phase": words("commentary", "final_answer")},
    )


def _call(kind: str, key: str) -> Schema:
    required = {**kinds(kind), **_CALL_ID, "name": text(NAME_MAX_CHARS, 1), key: STRING}
    return loose(required, _CALLED)


def _result(kind: str) -> Schema:
    others = {key: one for key, one in _CALLED.items() if key != "parsed_arguments"}
    others["name"] = ANYTHING
    return loose({**kinds(kind), **_CALL_ID, "output": _OUTPUT}, others)


def _of_server(*names: str) -> Schema:
    """Items of tools that this server called, as it showed them."""
    return {**OBJECT, "properties": kinds(*names), "required": ["type"]}


ITEM: Final = either(
    _message(words("user"), _INPUT_TEXT, _IMAGE),
    _message(words("system", "developer"), _INPUT_TEXT),
    _message(words("assistant"), _OUTPUT_TEXT, _REFUSAL),
    _call("function_call", "arguments"),
    _result("function_call_output"),
    _call("custom_tool_call", "input"),
    _result("custom_tool_call_output"),
    loose(
        kinds("reasoning"),
        {
            **_HEAD,
            "summary": _parts(loose({**kinds("summary_text"), "text": STRING})),
            "content": _parts(loose({**kinds("reasoning_text"), "text": STRING})),
            "encrypted_content": STRING,
        },
    ),
    loose({**kinds("compaction"), "encrypted_content": STRING}, {**_ID, "created_by": ANYTHING}),
    _of_server("mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response"),
)
ITEM_REFERENCE: Final = loose(_ID, kinds("item_reference"))
INPUT: Final = either(STRING, array(either(ITEM, ITEM_REFERENCE), ITEMS_MAX))
CONVERSATION: Final = either(text(ID_MAX_CHARS, 1), closed(_ID))

_PLAIN: Final[dict[str, Schema]] = {
    "async": {"enum": [False]},
    "defer_loading": {"enum": [False]},
    "allowed_callers": {"enum": [["direct"]]},
}
_SAID: Final = {"description": text(DESCRIPTION_MAX_CHARS)}
_FUNCTION: Final = loose(
    {**kinds("function"), "name": NAME},
    {**_PLAIN, **_SAID, "parameters": JSON_SCHEMA, "strict": BOOLEAN, "output_schema": OBJECT},
)
_CUSTOM: Final = loose(
    {**kinds("custom"), "name": NAME}, {**_PLAIN, **_SAID, "format": loose(kinds("text"))}
)
_NAMES: Final = array(text(256, 1), TOOLS_MAX)
_FILTER: Final = loose({}, {"tool_names": _NAMES, "read_only": BOOLEAN})
_MCP: Final = loose(
    {**kinds("mcp"), "server_label": text(LABEL_MAX_CHARS, 1)},
    {
        "server_description": text(DESCRIPTION_MAX_CHARS),
        "allowed_tools": either(_NAMES, _FILTER),
        "require_approval": either(
            words("always", "never"), loose({}, {"always": _FILTER, "never": _FILTER})
        ),
        "allowed_callers": {"enum": [["direct"]]},
        "defer_loading": {"enum": [False]},
    },
)
_NAMESPACE: Final[Schema] = {
    **OBJECT,
    "properties": {**kinds("namespace"), "name": STRING, "tools": {"type": "array"}},
    "required": ["type", "name", "tools"],
}
TOOLS: Final = array(either(_FUNCTION, _CUSTOM, _MCP, _NAMESPACE), TOOLS_MAX)

_BY_NAME: Final = closed({**kinds("function", "custom"), "name": NAME})
_LABEL: Final = {"server_label": text(LABEL_MAX_CHARS, 1)}
CHOICE: Final = either(
    words("none", "auto", "required"),
    _BY_NAME,
    closed({**kinds("mcp"), **_LABEL}, {"name": text(256, 1)}),
    closed(
        {
            **kinds("allowed_tools"),
            "mode": words("auto", "required"),
            "tools": array(
                either(_BY_NAME, closed({**kinds("mcp"), **_LABEL}, {"name": NULL})), TOOLS_MAX, 1
            ),
        }
    ),
)
REASONING: Final = closed(
    {},
    {
        "effort": words(*EFFORTS),
        "summary": words(*SUMMARIES),
        "generate_summary": words(*SUMMARIES),
        "context": words("auto"),
        "mode": words("standard"),
    },
)
_SCHEMA_FORMAT: Final = {
    **NAMED_SCHEMA,
    "properties": {**kinds("json_schema"), **NAMED_SCHEMA["properties"]},
    "required": ["type", *NAMED_SCHEMA["required"]],
}
TEXT: Final = closed(
    {},
    {
        "format": either(closed(kinds("text", "json_object")), _SCHEMA_FORMAT),
        "verbosity": words("medium"),
    },
)
CACHE_OPTIONS: Final = closed(
    {},
    {
        "mode": words("implicit", "explicit"),
        "ttl": words("30m", "12h"),
        "prewarm": {"enum": [False]},
        "comparison_response_id": NULL,
    },
)
IMAGE: Final = closed({}, {"context_compression": words("auto", "disabled")})
STREAM_OPTIONS: Final = closed({}, {"include_obfuscation": {"enum": [False]}})
BACKGROUND_OPTIONS: Final = closed(
    {}, {"completion_window": words("soonest"), "continuation_id": text(1024)}
)
INCLUDE: Final = array(words(*INCLUDABLE), INCLUDE_MAX)
