"""How the objects that are answered are written down, in JSON Schema.

All their keys are there in every answer but those marked as optional, and there are no others.
"""

from typing import Final

from serve.api.fields.shapes import BOOLEAN, STRING, Schema, array, integer, pairs, words

COUNT: Final = integer(0)
NUMBER: Final[Schema] = {"type": "number"}
ID: Final = STRING
TIME: Final[Schema] = {"type": "integer", "description": "seconds since 1970, UTC"}
METADATA: Final = pairs(STRING, 16)
TIER: Final = words("default", "flex", "priority")


def ref(name: str) -> Schema:
    """Another object of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def shown(keys: dict[str, Schema], /, **optional: Schema) -> Schema:
    """An object that is answered."""
    return {
        "type": "object",
        "properties": {**keys, **optional},
        "required": list(keys),
        "additionalProperties": False,
    }


def kind(name: str) -> dict[str, Schema]:
    """The key `object`, with its one value."""
    return {"object": {"const": name}}


def typed(name: str) -> dict[str, Schema]:
    """The key `type`, with its one value."""
    return {"type": {"const": name}}


def page(each: Schema) -> Schema:
    """A part of a list."""
    ends = {"first_id": STRING, "last_id": STRING, "has_more": BOOLEAN}
    return shown({**kind("list"), "data": array(each), **ends})


def gone(name: str) -> Schema:
    """What answers a deletion."""
    return shown({"id": ID, **kind(name), "deleted": {"const": True}})
