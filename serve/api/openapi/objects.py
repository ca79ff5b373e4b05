"""The objects that are answered, but those of responses and messages."""

from typing import Final

from serve.api.fields.shapes import (
    OBJECT,
    STRING,
    Schema,
    array,
    either,
    integer,
    nullable,
    pairs,
    words,
)
from serve.api.openapi.notation import (
    COUNT,
    ID,
    METADATA,
    NUMBER,
    TIER,
    TIME,
    kind,
    ref,
    shown,
    typed,
)

ERROR: Final = shown(
    {
        "error": shown(
            {
                "message": STRING,
                "type": STRING,
                "param": nullable(STRING),
                "code": nullable(STRING),
            }
        )
    }
)
ANTHROPIC_ERROR: Final = shown(
    {
        **typed("error"),
        "error": shown({"type": STRING, "message": STRING}),
        "request_id": STRING,
    }
)

_LOGPROB: Final = {
    "token": STRING,
    "logprob": NUMBER,
    "bytes": nullable(array(integer(0, 255))),
}
LOGPROBS: Final = array(shown(_LOGPROB, top_logprobs=array(shown(_LOGPROB))))
_CHAT_LOGPROBS: Final = nullable(
    shown({"content": nullable(LOGPROBS), "refusal": nullable(LOGPROBS)})
)
_COMPLETION_LOGPROBS: Final = nullable(
    shown(
        {
            "text_offset": array(COUNT),
            "token_logprobs": array(nullable(NUMBER)),
            "tokens": array(STRING),
            "top_logprobs": array(nullable({**OBJECT, "additionalProperties": NUMBER})),
        }
    )
)
USAGE: Final = shown(
    {
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "total_tokens": COUNT,
        "prompt_tokens_details": shown({"cached_tokens": COUNT, "audio_tokens": COUNT}),
        "completion_tokens_details": shown(
            {
                "reasoning_tokens": COUNT,
                "audio_tokens": COUNT,
                "accepted_prediction_tokens": COUNT,
                "rejected_prediction_tokens": COUNT,
            }
        ),
    }
)
READ_USAGE: Final = shown({"prompt_tokens": COUNT, "total_tokens": COUNT})
CHAT_FINISH: Final = words("stop", "length", "tool_calls", "content_filter", "function_call")
COMPLETION_FINISH: Final = words("stop", "length", "content_filter")
_CALLED: Final = shown({"name": STRING, "arguments": STRING})
_CALL: Final = shown({"id": ID, **typed("function"), "function": _CALLED})
_REASONING: Final = {"reasoning": STRING, "reasoning_content": STRING}
CHAT_MESSAGE: Final = shown(
    {
        "role": {"const": "assistant"},
        "content": nullable(STRING),
        "refusal": nullable(STRING),
        "annotations": array(OBJECT),
    },
    tool_calls=array(_CALL),
    **_REASONING,
)
_ANSWERED: Final = {"id": ID, "created": TIME, "model": STRING, "system_fingerprint": STRING}


def chat_completion() -> Schema:
    """`chat.completion`; one that is stored has its metadata."""
    choice = shown(
        {
            "index": COUNT,
            "message": CHAT_MESSAGE,
            "logprobs": _CHAT_LOGPROBS,
            "finish_reason": CHAT_FINISH,
        }
    )
    return shown(
        {
            **_ANSWERED,
            **kind("chat.completion"),
            "choices": array(choice),
            "usage": ref("Usage"),
            "service_tier": TIER,
        },
        metadata=METADATA,
    )


def chat_chunk() -> Schema:
    """`chat.completion.chunk`."""
    call = shown(
        {"index": COUNT, "function": shown({}, name=STRING, arguments=STRING)},
        id=ID,
        **typed("function"),
    )
    delta = shown(
        {},
        role={"const": "assistant"},
        content=nullable(STRING),
        refusal=nullable(STRING),
        tool_calls=array(call),
        **_REASONING,
    )
    choice = shown(
        {
            "index": COUNT,
            "delta": delta,
            "logprobs": _CHAT_LOGPROBS,
            "finish_reason": nullable(CHAT_FINISH),
        }
    )
    head = {**_ANSWERED, **kind("chat.completion.chunk"), "service_tier": TIER}
    return shown({**head, "choices": array(choice)}, usage=nullable(ref("Usage")))


def completion(*, streamed: bool) -> Schema:
    """`text_completion`, whole or a part of it."""
    finish = nullable(COMPLETION_FINISH) if streamed else COMPLETION_FINISH
    choice = shown(
        {
            "index": COUNT,
            "text": STRING,
            "logprobs": _COMPLETION_LOGPROBS,
            "finish_reason": finish,
        }
    )
    head = {**_ANSWERED, **kind("text_completion"), "choices": array(choice)}
    if streamed:
        return shown(head, usage=nullable(ref("Usage")))
    return shown({**head, "usage": ref("Usage")})


_CONTENT_PART: Final = either(
    shown({**typed("text"), "text": STRING}),
    shown({**typed("image_url"), "image_url": OBJECT}),
)
STORED_MESSAGE: Final = {
    **OBJECT,
    "properties": {
        "id": ID,
        "role": STRING,
        "content": nullable(STRING),
        "content_parts": nullable(array(_CONTENT_PART)),
    },
    "required": ["id", "role", "content"],
}
_FILE: Final = {
    "id": ID,
    **kind("file"),
    "bytes": COUNT,
    "created_at": TIME,
    "expires_at": nullable(TIME),
    "filename": STRING,
    "purpose": words("batch", "user_data", "batch_output"),
    "status": {"const": "processed"},
    "status_details": {"type": "null"},
}
FILE: Final = shown(_FILE)
UPLOAD: Final = shown(
    {
        "id": ID,
        **kind("upload"),
        "bytes": COUNT,
        "created_at": TIME,
        "expires_at": TIME,
        "filename": STRING,
        "purpose": STRING,
        "status": words("pending", "completed", "cancelled", "expired"),
        "file": nullable(ref("File")),
    }
)
UPLOAD_PART: Final = shown({"id": ID, **kind("upload.part"), "created_at": TIME, "upload_id": ID})
_WHEN: Final = {
    f"{what}_at": nullable(TIME)
    for what in ("in_progress", "expires", "finalizing", "completed", "failed", "expired",
                 "cancelling", "cancelled")
}  # fmt: skip
BATCH_ERROR: Final = shown(
    {
        "code": STRING,
        "message": STRING,
        "param": nullable(STRING),
        "line": nullable(integer(1)),
    }
)
BATCH: Final = {
    **OBJECT,
    "properties": {
        "id": ID,
        **kind("batch"),
        "endpoint": STRING,
        "errors": nullable(shown({**kind("list"), "data": array(BATCH_ERROR)})),
        "input_file_id": ID,
        "completion_window": STRING,
        "status": words("validating", "failed", "in_progress", "finalizing", "completed",
                        "expired", "cancelling", "cancelled"),
        "output_file_id": nullable(ID),
        "error_file_id": nullable(ID),
        "created_at": TIME,
        **_WHEN,
        "request_counts": shown({"total": COUNT, "completed": COUNT, "failed": COUNT}),
        "metadata": nullable(METADATA),
        "model": nullable(STRING),
        "usage": nullable(OBJECT),
    },
    "required": ["id", "object", "endpoint", "input_file_id", "completion_window", "status",
                 "created_at", "request_counts"],
    "additionalProperties": False,
}  # fmt: skip
CONVERSATION: Final = shown(
    {"id": ID, **kind("conversation"), "created_at": TIME, "metadata": METADATA}
)


def embeddings() -> Schema:
    """A list of vectors, as numbers or in base64."""
    vector = either(array(NUMBER), {"type": "string", "contentEncoding": "base64"})
    one = shown({**kind("embedding"), "index": COUNT, "embedding": vector})
    return shown({**kind("list"), "data": array(one), "model": STRING, "usage": READ_USAGE})


def scores() -> Schema:
    one = shown({"index": COUNT, **kind("score"), "score": NUMBER})
    head = {"id": ID, **kind("list"), "created": TIME, "model": STRING}
    return shown({**head, "data": array(one), "usage": READ_USAGE})


def ranking() -> Schema:
    one = shown({"index": COUNT, "relevance_score": NUMBER}, document=shown({"text": STRING}))
    return shown({"id": ID, "model": STRING, "results": array(one), "usage": READ_USAGE})


TOKENS: Final = shown(
    {
        "count": COUNT,
        "max_model_len": COUNT,
        "tokens": array(COUNT),
        "token_strs": nullable(array(STRING)),
    }
)
TEXT: Final = shown({"prompt": STRING})
MODEL: Final = shown(
    {
        "id": ID,
        **kind("model"),
        "created": TIME,
        "owned_by": STRING,
        "inhouse": {**OBJECT, "description": "what else this site says of the model"},
    }
)
MODELS: Final = shown({**kind("list"), "data": array(ref("Model"))})

_TOLD: Final = {**OBJECT, "properties": {"state": STRING, "restarts": COUNT}, "required": ["state"]}
READINESS: Final = shown(
    {"status": words("ready", "not_ready", "draining"), "models": pairs(_TOLD, 10_000)}
)
LIVENESS: Final = shown({"status": {"const": "live"}})

OPENAPI: Final = {**OBJECT, "required": ["openapi", "info", "paths"]}
