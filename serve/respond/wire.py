"""The events of a response as they are sent, and what they say of its end."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from serve.core.errors import InvalidRequest, Overloaded, RequestError

JSON = dict[str, Any]

BEGINNINGS: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
CANCELLED: Final = "response_cancelled"


def frame(event: JSON) -> bytes:
    """An event as it is sent."""
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"


def event_of(sent: bytes) -> JSON:
    """The event of a frame that `frame` made."""
    event: JSON = orjson.loads(sent[sent.index(b"\ndata: ") + 7 :])
    return event


def end_of(final: JSON) -> tuple[str, JSON]:
    """The type and fields of the event that ends the stream of a response.

    The API has none for a cancelled one.
    """
    if final["status"] == "cancelled":
        words = "The response was cancelled."
        return "error", {"code": CANCELLED, "message": words, "param": None}
    return f"response.{final['status']}", {"response": final}


def error_of(error: RequestError) -> JSON:
    """The `error` of a failed response: the API has a few codes for it, and says more in words."""
    match error:
        case Overloaded():
            code = "rate_limit_exceeded"
        case InvalidRequest():
            code = "invalid_prompt"
        case _:
            code = "server_error"
    return {"code": code, "message": error.message}


def output_of(events: Sequence[JSON]) -> list[JSON]:
    """The items that had ended in these events of one response, in their order."""
    done = [one for one in events if one["type"] == "response.output_item.done"]
    return [one["item"] for one in sorted(done, key=lambda one: one["output_index"])]
