"""A client's JSON Schema (2020-12): well formed, closed in itself, and bounded.

Written out rather than left to `jsonschema`, whose metaschema takes milliseconds for a schema of
ordinary size and says nothing of what would hurt: a `$ref` to another host (it would be fetched),
one that comes back to itself without reading anything (it never ends), patterns that explode.
What passes here, `jsonschema.Draft202012Validator` takes; a test holds the two together.
"""

import re
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import unquote

import orjson

from serve.api.fields import faults
from serve.api.fields.patterns import check_pattern

SCHEMA_MAX_BYTES: Final = 256 * 1024
SCHEMA_MAX_LEVELS: Final = 64
"""Nesting of the JSON itself, vLLM's own bound: about 32 objects inside each other."""
SCHEMA_MAX_PARTS: Final = 4096
"""Subschemas in one schema."""
SCHEMA_MAX_PATHS: Final = 4096
"""Ways through `$ref`, `allOf`, `anyOf`… that one value is checked along."""
REMEMBERED: Final = 1024
"""Schemas known to be good, by digest: programs send the same ones again and again."""

TYPES: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})

# Kinds of keyword by what their value is; those that look at the same value are in place.
_SCHEMA: Final = frozenset(
    ("items", "contains", "additionalProperties", "propertyNames", "unevaluatedItems",
     "unevaluatedProperties", "contentSchema")
)  # fmt: skip
_SCHEMA_IN_PLACE: Final = frozenset(("not", "if", "then", "else"))
_SCHEMAS: Final = frozenset(("prefixItems",))
_SCHEMAS_IN_PLACE: Final = frozenset(("allOf", "anyOf", "oneOf"))
_MAP: Final = frozenset(("properties", "patternProperties", "$defs", "definitions"))
_MAP_IN_PLACE: Final = frozenset(("dependentSchemas",))
_NESTING: Final = _SCHEMA | _SCHEMA_IN_PLACE | _SCHEMAS | _SCHEMAS_IN_PLACE | _MAP | _MAP_IN_PLACE
_REFUSED: Final = frozenset(("$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor"))

_good: dict[bytes, None] = {}


def check_schema(value: Any, param: str, *, matched_here: bool = False) -> dict[str, Any]:
    """The schema itself, or InvalidRequest with the path of the keyword at fault.

    `matched_here`: this process will validate with it (strict tools), not only the engine.
    """
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    try:
        data = orjson.dumps(value)
    except (orjson.JSONEncodeError, RecursionError):
        raise faults.invalid(param, f"nested deeper than {SCHEMA_MAX_LEVELS} levels.") from None
    if len(data) > SCHEMA_MAX_BYTES:
        raise faults.too_long(param, "object", SCHEMA_MAX_BYTES, len(data))
    digest = blake2b(data, digest_size=16, key=b"here" if matched_here else b"").digest()
    if digest not in _good:
        _Walk(value, param, matched_here).run()
        if len(_good) >= REMEMBERED:
            del _good[next(iter(_good))]
        _good[digest] = None
    return value


class _Walk:
    """One pass over every subschema that the root reaches, by nesting or by `$ref`."""

    def __init__(self, root: dict[str, Any], param: str, matched_here: bool) -> None:
        self._root = root
        self._param = param
        self._matched_here = matched_here
        self._todo: list[tuple[Any, str]] = [(root, param)]
        self._in_place: dict[int, list[int]] = {}

    def run(self) -> None:
        _check_levels(self._root, self._param)
        while self._todo:
            part, path = self._todo.pop()
            if type(part) is bool:
                continue
            if type(part) is not dict:
                raise faults.wrong_type(path, "a schema (an object or a boolean)", part)
            if id(part) in self._in_place:
                continue
            if len(self._in_place) >= SCHEMA_MAX_PARTS:
                raise faults.invalid(self._param, f"more than {SCHEMA_MAX_PARTS} subschemas.")
            self._in_place[id(part)] = []
            for keyword, value in part.items():
                self._keyword(part, keyword, value, _under(path, keyword))
        self._check_paths()

    def _keyword(self, part: dict[str, Any], keyword: str, value: Any, path: str) -> None:
        if keyword in _NESTING:
            in_place = (
                keyword in _SCHEMA_IN_PLACE or keyword in _SCHEMAS_IN_PLACE
            ) or keyword in _MAP_IN_PLACE
            for inner, inner_path in self._inner(keyword, value, path):
                self._add(part, inner, inner_path, in_place)
        elif keyword == "$ref":
            self._add(part, self._resolve(value, path), path, in_place=True)
        elif keyword in _REFUSED or (
            keyword == "$id" and (self._matched_here or part is not self._root)
        ):
            raise faults.unsupported(path, "refer to parts of a schema with `$ref: '#/…'`.")
        elif keyword == "pattern":
            check_pattern(value, path, matched_here=self._matched_here)
        elif (rule := _VALUES.get(keyword)) is not None:
            rule(value, path)

    def _inner(self, keyword: str, value: Any, path: str) -> Iterator[tuple[Any, str]]:
        if keyword in _SCHEMA or keyword in _SCHEMA_IN_PLACE:
            if keyword == "items" and type(value) is list:
                raise faults.invalid(path, "an array of schemas is `prefixItems` since 2020-12.")
            yield value, path
        elif keyword in _SCHEMAS or keyword in _SCHEMAS_IN_PLACE:
            if type(value) is not list:
                raise faults.wrong_type(path, "an array of schemas", value)
            if not value:
                raise faults.empty(path, "array")
            for place, inner in enumerate(value):
                yield inner, f"{path}[{place}]"
        else:
            if type(value) is not dict:
                raise faults.wrong_type(path, "an object", value)
            for key, inner in value.items():
                if keyword == "patternProperties":
                    check_pattern(key, path, matched_here=self._matched_here)
                yield inner, _under(path, key)

    def _add(self, part: dict[str, Any], inner: Any, path: str, in_place: bool) -> None:
        self._todo.append((inner, path))
        if in_place and type(inner) is dict:
            self._in_place[id(part)].append(id(inner))

    def _resolve(self, ref: Any, path: str) -> Any:
        """What a `$ref` points to in this schema; nothing else is ever opened."""
        if type(ref) is not str:
            raise faults.wrong_type(path, "a string", ref)
        if ref != "#" and not ref.startswith("#/"):
            raise faults.unsupported_value(path, ref, "only `#` and `#/…`, inside the schema.")
        target: Any = self._root
        for step in unquote(ref[1:]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if type(target) is dict and key in target:
                target = target[key]
            elif (
                type(target) is list and key.isdecimal() and len(key) < 7 and int(key) < len(target)
            ):
                target = target[int(key)]
            else:
                raise faults.invalid(path, f"the schema has nothing at {faults.shown(ref)}.")
        return target

    def _check_paths(self) -> None:
        """No value may be checked for ever, or along too many ways."""
        try:
            order = tuple(TopologicalSorter(self._in_place).static_order())
        except CycleError:
            raise faults.invalid(
                self._param, "a `$ref` comes back to itself without reading anything."
            ) from None
        paths: dict[int, int] = {}
        for part in order:
            paths[part] = 1 + sum(paths[inner] for inner in self._in_place.get(part, ()))
            if paths[part] > SCHEMA_MAX_PATHS:
                raise faults.invalid(
                    self._param, f"one value is checked along over {SCHEMA_MAX_PATHS} ways."
                )


def _under(path: str, key: str) -> str:
    """The path of a key, which a client may have made as long as the whole schema."""
    return f"{path}.{key[: faults.SHOWN_MAX_CHARS]}" if len(path) < faults.PATH_MAX_CHARS else path


def _check_levels(root: Any, param: str) -> None:
    level = [root]
    for _ in range(SCHEMA_MAX_LEVELS):
        level = [
            inner
            for value in level
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise faults.invalid(param, f"nested deeper than {SCHEMA_MAX_LEVELS} levels.")


def _string(value: Any, path: str) -> None:
    if type(value) is not str:
        raise faults.wrong_type(path, "a string", value)


def _boolean(value: Any, path: str) -> None:
    if type(value) is not bool:
        raise faults.wrong_type(path, "a boolean", value)


def _number(value: Any, path: str) -> None:
    if type(value) is not int and type(value) is not float:
        raise faults.wrong_type(path, "a number", value)


def _positive(value: Any, path: str) -> None:
    _number(value, path)
    if value <= 0:
        raise faults.below(path, "decimal", 0, value, ">")


def _count(value: Any, path: str) -> None:
    if type(value) is not int and not (type(value) is float and value.is_integer()):
        raise faults.wrong_type(path, "an integer", value)
    if value < 0:
        raise faults.below(path, "integer", 0, value)


def _array(value: Any, path: str) -> None:
    if type(value) is not list:
        raise faults.wrong_type(path, "an array", value)


def _names(value: Any, path: str) -> None:
    _array(value, path)
    if not all(type(one) is str for one in value) or len(set(value)) != len(value):
        raise faults.invalid(path, "expected an array of different strings.")


def _names_by_name(value: Any, path: str) -> None:
    if type(value) is not dict:
        raise faults.wrong_type(path, "an object", value)
    for key, names in value.items():
        _names(names, f"{path}.{key}")


def _type(value: Any, path: str) -> None:
    names = value if type(value) is list else [value]
    if not names or not all(type(one) is str and one in TYPES for one in names):
        raise faults.not_one_of(path, value, sorted(TYPES))
    if len(set(names)) != len(names):
        raise faults.invalid(path, "a type is named twice.")


_IDENTIFIER: Final = re.compile(r"[^#]*#?")


def _identifier(value: Any, path: str) -> None:
    _string(value, path)
    if _IDENTIFIER.fullmatch(value) is None:
        raise faults.invalid(path, "expected a URI without a fragment.")


_VALUES: Final[dict[str, Callable[[Any, str], None]]] = {
    "$schema": _string,
    "$id": _identifier,
    "$comment": _string,
    "title": _string,
    "description": _string,
    "format": _string,
    "contentEncoding": _string,
    "contentMediaType": _string,
    "deprecated": _boolean,
    "readOnly": _boolean,
    "writeOnly": _boolean,
    "uniqueItems": _boolean,
    "maximum": _number,
    "minimum": _number,
    "exclusiveMaximum": _number,
    "exclusiveMinimum": _number,
    "multipleOf": _positive,
    "maxLength": _count,
    "minLength": _count,
    "maxItems": _count,
    "minItems": _count,
    "maxContains": _count,
    "minContains": _count,
    "maxProperties": _count,
    "minProperties": _count,
    "required": _names,
    "dependentRequired": _names_by_name,
    "type": _type,
    "enum": _array,
    "examples": _array,
}
