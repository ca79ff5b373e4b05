"""The objects of the Responses API."""

from typing import Any, Final

from serve.api.fields.responses.options import EFFORTS, SUMMARIES
from serve.api.fields.shapes import BOOLEAN, OBJECT, STRING, array, either, nullable, words
from serve.api.openapi.notation import COUNT, ID, METADATA, NUMBER, TIER, TIME, kind, ref, shown

RESPONSE_USAGE: Final = shown(
    {
        "input_tokens": COUNT,
        "input_tokens_details": shown({"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": shown({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
)
RESPONSE_STATUS: Final = words(
    "queued", "in_progress", "completed", "incomplete", "failed", "cancelled"
)
_RESPONSE_ERROR: Final = nullable(shown({"code": STRING, "message": STRING}))
_REPEATED: Final[dict[str, Any]] = {
    "metadata": METADATA,
    "parallel_tool_calls": BOOLEAN,
    "temperature": nullable(NUMBER),
    "top_p": nullable(NUMBER),
    "tool_choice": either(STRING, OBJECT),
    "tools": array(OBJECT),
    "reasoning": shown(
        {"effort": nullable(words(*EFFORTS)), "summary": nullable(words(*SUMMARIES))}
    ),
    "text": {**OBJECT, "required": ["format"]},
    "truncation": words("auto", "disabled"),
}
RESPONSE: Final = {
    **OBJECT,
    "properties": {
        "id": ID,
        **kind("response"),
        "created_at": TIME,
        "completed_at": nullable(TIME),
        "status": RESPONSE_STATUS,
        "model": STRING,
        "output": array(ref("Item")),
        "usage": nullable(RESPONSE_USAGE),
        "error": _RESPONSE_ERROR,
        "incomplete_details": nullable(
            shown({"reason": words("max_output_tokens", "content_filter")})
        ),
        "service_tier": TIER,
        "background": nullable(BOOLEAN),
        "conversation": nullable(shown({"id": ID})),
        "instructions": nullable(STRING),
        "max_output_tokens": nullable(COUNT),
        "max_tool_calls": nullable(COUNT),
        "previous_response_id": nullable(ID),
        "store": BOOLEAN,
        **_REPEATED,
    },
    "required": ["id", "object", "created_at", "completed_at", "status", "model", "output",
                 "usage", "error", "incomplete_details", "service_tier", "background",
                 "conversation", "instructions", "max_output_tokens", "max_tool_calls",
                 "previous_response_id", "store", *_REPEATED],
}  # fmt: skip
INPUT_TOKENS: Final = shown({**kind("response.input_tokens"), "input_tokens": COUNT})
COMPACTED: Final = shown(
    {
        "id": ID,
        **kind("response.compaction"),
        "created_at": TIME,
        "output": array(ref("Item")),
        "usage": RESPONSE_USAGE,
    }
)
_PART: Final = {**OBJECT, "required": ["type"], "properties": {"type": STRING}}
ITEM: Final = {
    **OBJECT,
    "properties": {
        "id": ID,
        "type": words("message", "reasoning", "function_call", "function_call_output",
                      "custom_tool_call", "custom_tool_call_output", "mcp_call",
                      "mcp_list_tools", "mcp_approval_request", "mcp_approval_response",
                      "compaction"),
        "content": nullable(either(STRING, array(_PART))),
    },
    "required": ["id", "type"],
}  # fmt: skip
