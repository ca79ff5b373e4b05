"""A background request as it is kept, so that a server which starts anew can run it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from serve.core.call import Principal
from serve.respond.asked import Asked
from serve.state.records import ResponseRecord

JSON = dict[str, Any]

_SETS: Final = ("include", "custom_tools")
_TUPLES: Final = ("server_tools",)


def request_of(asked: Asked, principal: Principal, request_id: str) -> JSON:
    """What is kept of a request besides its items, which the record has."""
    kept: JSON = {one.name: getattr(asked, one.name) for one in fields(asked)}
    del kept["items"]
    for name in _SETS:
        kept[name] = sorted(kept[name])
    kept["strict_tools"] = dict(asked.strict_tools)
    kept["namespaces"] = dict(asked.namespaces)
    return {"asked": kept, "key": principal.key, "request_id": request_id}


def asked_of(record: ResponseRecord) -> tuple[Asked, Principal, str]:
    """The request again, who asked, and its id. Raises KeyError or TypeError for one of a form
    that this version does not know."""
    request: Mapping[str, Any] = record.request or {}
    kept = dict(request["asked"])
    for name in _SETS:
        kept[name] = frozenset(kept[name])
    for name in _TUPLES:
        kept[name] = tuple(kept[name])
    asked = Asked(items=record.items, **kept)
    return asked, Principal(request["key"], record.tenant), request["request_id"]
