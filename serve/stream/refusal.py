"""What an engine says when it does not answer, as an error of ours."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from serve.core.call import Call
from serve.core.errors import (
    ContextLengthExceeded,
    EngineError,
    InvalidRequest,
    Overloaded,
    RequestError,
)

_PROMPTS: Final[Mapping[str, str | None]] = {
    "chat.completions": "messages",
    "completions": "prompt",
    "messages": "messages",
    "messages.count_tokens": "messages",
    "rerank": "documents",
    "score": None,
}
"""The field that holds the prompt, by endpoint, None where it has several names; the others call
it `input`."""


def refusal(call: Call, status: int, body: bytes) -> RequestError:
    """An engine's refusal as an error of ours.

    Only a 400's words are the client's business; they are about its request.
    """
    message = _message_of(body)
    if status in (400, 422):
        if "context length" in message or "max_model_len" in message:
            return ContextLengthExceeded(message, param=_PROMPTS.get(call.endpoint, "input"))
        # Whether vectors can be cut short is the model's own to say.
        param = "dimensions" if "dimensions" in call.body and "dimensions" in message else None
        return InvalidRequest(message, param=param, code="invalid_value")
    if status in (429, 503):
        return Overloaded("the model's own queue is full; try again shortly")
    return EngineError(f"the model's process refused this request ({status})")


def _message_of(body: bytes) -> str:
    try:
        error: Any = orjson.loads(body)
        return str(error["error"]["message"])[:1000]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "the model's process refused this request without a reason"
