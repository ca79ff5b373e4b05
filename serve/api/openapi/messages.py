"""The objects of Anthropic's Messages API."""

from typing import Final

from serve.api.fields.shapes import OBJECT, STRING, array, either, nullable, words
from serve.api.openapi.notation import COUNT, ID, ref, shown, typed

COUNTED: Final = shown({"input_tokens": COUNT}, context_management=OBJECT)
_MESSAGE_USAGE: Final = {
    "input_tokens": COUNT,
    "output_tokens": COUNT,
    "cache_creation_input_tokens": COUNT,
    "cache_read_input_tokens": COUNT,
    "output_tokens_details": shown({"thinking_tokens": COUNT}),
    "server_tool_use": {"type": "null"},
}
MESSAGE_USAGE: Final = shown(
    _MESSAGE_USAGE,
    service_tier={"const": "standard"},
    cache_creation=shown({"ephemeral_5m_input_tokens": COUNT, "ephemeral_1h_input_tokens": COUNT}),
)
BLOCK: Final = either(
    shown({**typed("text"), "text": STRING}),
    shown({**typed("thinking"), "thinking": STRING, "signature": STRING}),
    shown({**typed("tool_use"), "id": ID, "name": STRING, "input": OBJECT, "caller": OBJECT}),
)
STOP_REASON: Final = words(
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal",
    "model_context_window_exceeded",
)  # fmt: skip
STOPPED: Final = {
    "stop_reason": nullable(STOP_REASON),
    "stop_sequence": nullable(STRING),
    "stop_details": {"type": "null"},
}
MESSAGE: Final = shown(
    {
        "id": ID,
        **typed("message"),
        "role": {"const": "assistant"},
        "model": STRING,
        "content": array(ref("Block")),
        "container": {"type": "null"},
        "diagnostics": {"type": "null"},
        **STOPPED,
        "usage": ref("MessageUsage"),
    },
    context_management=OBJECT,
)
