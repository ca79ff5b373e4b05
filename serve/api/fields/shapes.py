"""JSON Schema (2020-12) of values, in the words that the tables' nested fields are written in.

What stands here and in the neighbouring `shapes` modules documents checks that are written out in
Python; a test holds the two together: no value that a check takes is against its schema.
"""

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

ANYTHING: Final[Schema] = {}
OBJECT: Final[Schema] = {"type": "object"}
STRING: Final[Schema] = {"type": "string"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
NULL: Final[Schema] = {"type": "null"}
BINARY: Final[Schema] = {"type": "string", "format": "binary"}
NAME: Final[Schema] = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}


def text(maximum_chars: int | None = None, minimum_chars: int = 0) -> Schema:
    """A string of some length."""
    bound = {} if maximum_chars is None else {"maxLength": maximum_chars}
    return {"type": "string", "minLength": minimum_chars, **bound}


def integer(minimum: int, maximum: int | None = None) -> Schema:
    bound = {} if maximum is None else {"maximum": maximum}
    return {"type": "integer", "minimum": minimum, **bound}


def words(*allowed: str) -> Schema:
    """One of these strings."""
    return {"type": "string", "enum": list(allowed)}


def array(each: Schema, maximum_items: int | None = None, minimum_items: int = 0) -> Schema:
    bound = {} if maximum_items is None else {"maxItems": maximum_items}
    return {"type": "array", "items": each, "minItems": minimum_items, **bound}


def either(*options: Schema) -> Schema:
    return {"anyOf": list(options)}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if not schema or schema == NULL:
        return schema
    if "enum" in schema:
        kinds = {"type": [schema["type"], "null"]} if "type" in schema else {}
        return {**schema, **kinds, "enum": [*schema["enum"], None]}
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    if "anyOf" in schema and len(schema) == 1:
        return {"anyOf": [*schema["anyOf"], NULL]}
    return {"anyOf": [schema, NULL]}


def closed(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> dict[str, Any]:
    """An object with no other keys; null is the same as absent."""
    return _object(required, optional, False)


def loose(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> dict[str, Any]:
    """The same, where a key of another kind may stand with null."""
    return _object(required, optional, NULL)


def kinds(*names: str) -> dict[str, Schema]:
    """The key `type`, with these values."""
    return {"type": words(*names)}


def _object(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None, others: Schema | bool
) -> dict[str, Any]:
    more = {key: nullable(one) for key, one in (optional or {}).items()}
    found: dict[str, Any] = {"type": "object", "properties": {**required, **more}}
    if required:
        found["required"] = list(required)
    return {**found, "additionalProperties": others}


def pairs(value: Schema, maximum: int, key: Schema | None = None) -> Schema:
    """An object of any keys, all of them to values of one kind."""
    names = {} if key is None else {"propertyNames": key}
    return {
        "type": "object",
        "additionalProperties": value,
        "maxProperties": maximum,
        **names,
    }
