"""The events of streamed answers, in JSON Schema: one `data:` line each."""

from typing import Final

from serve.api.fields.shapes import OBJECT, STRING, Schema, array, either, nullable, words
from serve.api.openapi.messages import STOPPED
from serve.api.openapi.notation import COUNT, ID, ref, shown, typed
from serve.api.openapi.objects import LOGPROBS

_CHANGES: Final = ("queued", "created", "in_progress", "completed", "incomplete", "failed")
_ITEM: Final = {"item_id": ID, "output_index": COUNT}
_PART: Final = {**OBJECT, "properties": {"type": STRING}, "required": ["type"]}
_OF_ITEMS: Final = {
    "output_text.delta": {"content_index": COUNT, "delta": STRING, "logprobs": LOGPROBS},
    "output_text.done": {"content_index": COUNT, "text": STRING, "logprobs": LOGPROBS},
    "content_part.added": {"content_index": COUNT, "part": _PART},
    "content_part.done": {"content_index": COUNT, "part": _PART},
    "reasoning_text.delta": {"content_index": COUNT, "delta": STRING},
    "reasoning_text.done": {"content_index": COUNT, "text": STRING},
    "function_call_arguments.delta": {"delta": STRING},
    "function_call_arguments.done": {"name": STRING, "arguments": STRING},
    "custom_tool_call_input.delta": {"delta": STRING},
    "custom_tool_call_input.done": {"input": STRING},
    "mcp_call_arguments.delta": {"delta": STRING},
    "mcp_call_arguments.done": {"arguments": STRING},
    "mcp_call.in_progress": {},
    "mcp_call.completed": {},
    "mcp_call.failed": {},
    "mcp_list_tools.in_progress": {},
    "mcp_list_tools.completed": {},
    "mcp_list_tools.failed": {},
}


def _event(kind: str, keys: dict[str, Schema]) -> Schema:
    return shown({**typed(kind), "sequence_number": COUNT, **keys})


def response_events() -> Schema:
    """Of `/v1/responses`; the last one is `completed`, `incomplete`, `failed` or `error`."""
    whole = [_event(f"response.{name}", {"response": ref("Response")}) for name in _CHANGES]
    items = [
        _event(f"response.output_item.{name}", {"output_index": COUNT, "item": ref("Item")})
        for name in ("added", "done")
    ]
    inside = [_event(f"response.{name}", {**_ITEM, **keys}) for name, keys in _OF_ITEMS.items()]
    said = {"code": nullable(STRING), "message": STRING, "param": nullable(STRING)}
    return either(*whole, *items, *inside, _event("error", said))


_USAGE: Final = ref("MessageUsage")
_DELTAS: Final = (
    shown({**typed("text_delta"), "text": STRING}),
    shown({**typed("thinking_delta"), "thinking": STRING}),
    shown({**typed("signature_delta"), "signature": STRING}),
    shown({**typed("input_json_delta"), "partial_json": STRING}),
)


def message_events() -> Schema:
    """Of `/v1/messages`; the last one is `message_stop` or `error`."""
    index = {"index": COUNT}
    return either(
        shown({**typed("message_start"), "message": ref("Message")}),
        shown({**typed("content_block_start"), **index, "content_block": ref("Block")}),
        shown({**typed("content_block_delta"), **index, "delta": either(*_DELTAS)}),
        shown({**typed("content_block_stop"), **index}),
        shown(
            {
                **typed("message_delta"),
                "delta": shown({**STOPPED, "container": {"type": "null"}}),
                "usage": _USAGE,
            },
            context_management=shown({"applied_edits": array(OBJECT)}),
        ),
        shown(typed("message_stop")),
        shown(typed("ping")),
        ref("AnthropicError"),
    )


def chunks(name: str) -> Schema:
    """Of endpoints that end in `data: [DONE]`, and in an error where they fail."""
    return either(ref(name), ref("Error"), words("[DONE]"))
