"""The shapes that all kept objects share: answers, lists, deletions."""

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Response

JSON = dict[str, Any]


def answer_of(value: JSON) -> Response:
    """An object as it is, without the framework's own look at each of its values."""
    return Response(orjson.dumps(value), media_type="application/json")


def list_of(data: Sequence[JSON], *, has_more: bool) -> JSON:
    """A page of a list. The schema wants ids of its ends, which an empty page does not have."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else "",
        "last_id": data[-1]["id"] if data else "",
        "has_more": has_more,
    }


def deleted(kind: str, object_id: str) -> JSON:
    """What answers a deletion."""
    return {"id": object_id, "object": f"{kind}.deleted", "deleted": True}
