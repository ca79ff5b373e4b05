"""The nested values of a chat's request in JSON Schema: messages, tools, forms of the answer."""

from typing import Final

from serve.api.fields.messages import (
    CALLS_MAX,
    ID_MAX_CHARS,
    MESSAGES_MAX,
    NAME_MAX_CHARS,
    PARTS_MAX,
)
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
    integer,
    kinds,
    loose,
    pairs,
    text,
    words,
)
from serve.api.fields.tools import DESCRIPTION_MAX_CHARS, TOOLS_MAX

JSON_SCHEMA: Final[Schema] = {"type": "object", "description": "JSON Schema, 2020-12"}
_BREAK: Final = {"prompt_cache_breakpoint": ANYTHING}

_TEXT: Final = closed({**kinds("text"), "text": STRING}, _BREAK)
_REFUSAL: Final = closed({**kinds("refusal"), "refusal": STRING}, _BREAK)
_DATA_URL: Final[Schema] = {"type": "string", "description": "a `data:` URL; none is fetched"}
_IMAGE: Final = closed(
    {
        **kinds("image_url"),
        "image_url": closed(
            {"url": _DATA_URL}, {"detail": words("auto", "low", "high", "original")}
        ),
    },
    _BREAK,
)


def _content(*parts: Schema) -> Schema:
    return either(STRING, array(either(*parts), PARTS_MAX, 1))


_NAMED: Final = {"name": text(NAME_MAX_CHARS, 1)}
_CALL: Final = closed(
    {
        "id": text(ID_MAX_CHARS, 1),
        "function": closed({"name": text(NAME_MAX_CHARS, 1), "arguments": STRING}),
    },
    {**kinds("function"), "index": ANYTHING},
)
_ASSISTANT: Final = {
    "content": _content(_TEXT, _REFUSAL),
    "refusal": STRING,
    "tool_calls": array(_CALL, CALLS_MAX),
    "annotations": array(ANYTHING, PARTS_MAX),
    "audio": NULL,
    "function_call": NULL,
    "reasoning": STRING,
    "reasoning_content": STRING,
    **_NAMED,
}

MESSAGES: Final = array(
    either(
        loose({"role": words("developer", "system"), "content": _content(_TEXT)}, _NAMED),
        loose({"role": words("user"), "content": _content(_TEXT, _IMAGE)}, _NAMED),
        loose({"role": words("assistant")}, _ASSISTANT),
        loose(
            {
                "role": words("tool"),
                "tool_call_id": text(ID_MAX_CHARS, 1),
                "content": _content(_TEXT),
            },
            _NAMED,
        ),
    ),
    MESSAGES_MAX,
    1,
)
FUNCTION: Final = closed(
    {"name": NAME},
    {
        "description": text(DESCRIPTION_MAX_CHARS),
        "parameters": JSON_SCHEMA,
        "strict": BOOLEAN,
    },
)
TOOLS: Final = array(closed({**kinds("function"), "function": FUNCTION}), TOOLS_MAX, 1)
_NAMED_FUNCTION: Final = closed({**kinds("function"), "function": closed({"name": NAME})})
CHOICE: Final = either(
    words("none", "auto", "required"),
    _NAMED_FUNCTION,
    closed(
        {
            **kinds("allowed_tools"),
            "allowed_tools": closed(
                {
                    "mode": words("auto", "required"),
                    "tools": array(_NAMED_FUNCTION, TOOLS_MAX, 1),
                }
            ),
        }
    ),
)
NAMED_SCHEMA: Final = closed(
    {"name": NAME, "schema": JSON_SCHEMA},
    {"description": text(DESCRIPTION_MAX_CHARS), "strict": BOOLEAN},
)
RESPONSE_FORMAT: Final = either(
    closed(kinds("text", "json_object")),
    closed({**kinds("json_schema"), "json_schema": NAMED_SCHEMA}),
)
TEMPLATE_SETTINGS: Final = pairs({"type": ["string", "number", "boolean", "null"]}, 16, text(64, 1))
STREAM_OPTIONS: Final = closed(
    {}, {"include_usage": BOOLEAN, "include_obfuscation": {"enum": [False]}}
)
PREDICTION: Final = closed({**kinds("content"), "content": either(STRING, array(ANYTHING))})
CACHE_OPTIONS: Final = closed({}, {"mode": text(64), "ttl": text(64)})
MODALITIES: Final = array(words("text"), 8, 1)
TOKENS: Final = array(integer(0, 2**31 - 1))
PROMPTS: Final = either(
    text(minimum_chars=1),
    array(text(minimum_chars=1), 2048, 1),
    {**TOKENS, "minItems": 1},
    array({**TOKENS, "minItems": 1}, 2048, 1),
)
STRUCTURED: Final = closed(
    {},
    {
        "json": OBJECT,
        "choice": array(text(1024, 1), 256, 1),
        "regex": STRING,
        "json_object": {"enum": [True]},
        "disable_any_whitespace": BOOLEAN,
        "disable_additional_properties": BOOLEAN,
        "grammar": NULL,
        "structural_tag": NULL,
        "whitespace_pattern": NULL,
    },
)
