"""What became of the calls of this server, as the items of a conversation have it."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from serve.core.errors import InvalidRequest

JSON = dict[str, Any]


def arguments_of(text: str) -> JSON | None:
    """The arguments of a call as the model wrote them; None where they are no JSON object."""
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def result_of(item: JSON) -> str:
    """What the model is told that a call came to."""
    output: str | None = item.get("output")
    if output is not None:
        return output
    error = item.get("error")
    return "" if error is None else f"Error: {_said(error)}"


def _said(error: Any) -> str:
    """An error in its own words, where its form is one of the API's."""
    if type(error) is str:
        return error
    if type(message := error.get("message")) is str:
        return message
    content = error.get("content")
    parts = content if isinstance(content, list) else ()
    texts = [part["text"] for part in parts if isinstance(part, dict) and "text" in part]
    return "\n".join(map(str, texts)) or orjson.dumps(error).decode()


def requests_of(items: Sequence[JSON]) -> Mapping[str, JSON]:
    """The requests for approval by id; raises InvalidRequest for a response to none of them."""
    found: dict[str, JSON] = {}
    for item in items:
        if item["type"] == "mcp_approval_request":
            found[item["id"]] = item
        elif item["type"] == "mcp_approval_response" and item["approval_request_id"] not in found:
            raise InvalidRequest(
                f"No approval request found with id '{item['approval_request_id'][:80]}'.",
                param="input",
            )
    return found
