"""What the settings files may hold, as JSON Schema, in words, and as the table of the docs."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from serve.settings.model import ModelConfig
from serve.settings.site import ModelUse, SiteFile
from serve.settings.terms import IN_WORDS
from serve.settings.tree import Place

JSONSchema = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class View:
    """A JSON Schema that is walked by the place of a value."""

    def __init__(self, schema: JSONSchema) -> None:
        self._root = schema
        self._definitions: JSONSchema = schema.get("$defs", {})

    def resolved(self, schema: JSONSchema) -> JSONSchema:
        """References followed, and `X or null` read as X; siblings win over what they refer to."""
        while "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            schema = self._definitions[name] | {k: v for k, v in schema.items() if k != "$ref"}
        branches = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
        if len(branches) == 1:
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            return self.resolved(branches[0] | rest)
        return schema

    def at(self, place: Place) -> JSONSchema | None:
        """What may stand at `place`; None where nothing is foreseen."""
        schema = self.resolved(self._root)
        for step in place:
            below = schema.get("items") if isinstance(step, int) else _below(schema, step)
            if not isinstance(below, dict):
                return None
            schema = self.resolved(below)
        return schema


def _below(schema: JSONSchema, key: str) -> Any:
    named = schema.get("properties", {}).get(key)
    # Keys that must match a pattern: there is one pattern for them all.
    matching = next(iter(schema.get("patternProperties", {}).values()), None)
    return named or matching or schema.get("additionalProperties")


@cache
def view(model: type[BaseModel]) -> View:
    """The view of one settings type."""
    return View(model.model_json_schema())


def in_words(schema: JSONSchema, of: View) -> str:
    """What a value must be: `a whole number of 1 to 65535`."""
    schema = of.resolved(schema)
    if IN_WORDS in schema:
        return str(schema[IN_WORDS])
    if "anyOf" in schema:
        return " or ".join(in_words(one, of) for one in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(value) for value in schema["enum"])
    match schema.get("type"):
        case "integer":
            words = "a whole number" + _range(schema)
        case "number":
            words = "a number" + _range(schema)
        case "boolean":
            words = "true or false"
        case "array":
            least = " of one or more" if schema.get("minItems") else ""
            words = f"a list{least}, each {in_words(schema.get('items', {}), of)}"
        case "object":
            keys = ", ".join(schema.get("properties", ()))
            words = f"a mapping with the keys {keys}" if keys else "a mapping"
        case "string":
            words = _FORMATS.get(schema.get("format", ""), "text")
        case _:
            words = "a value"
    return words


_FORMATS: Final = {
    "path": "a path",
    "date": "a date (YYYY-MM-DD)",
    "date-time": "a time (YYYY-MM-DDTHH:MM:SSZ)",
}


def _range(schema: JSONSchema) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most = schema.get("maximum")
    if above is not None:
        return f" above {above}" + (f" and up to {most}" if most is not None else "")
    if least is not None:
        return f" of {least} to {most}" if most is not None else f" of {least} or more"
    return f" of at most {most}" if most is not None else ""


def json_schema() -> JSONSchema:
    """JSON Schema (2020-12) of the site file as users write it; `inhouse schema` prints it."""
    site = SiteFile.model_json_schema()
    use, config = ModelUse.model_json_schema(), ModelConfig.model_json_schema()
    definitions = config["$defs"] | site["$defs"]
    # An override may name one field of a nested mapping and leave the others to the model file.
    definitions["Source"] = definitions["Source"] | {"required": []}
    definitions["Model"] = {
        "type": "object",
        "description": "A model file's name, and whatever the site sets otherwise than it.",
        "properties": use["properties"] | config["properties"],
        "required": ["use"],
        "additionalProperties": False,
    }
    site["properties"]["models"]["items"] = {"$ref": "#/$defs/Model"}
    site["$defs"] = definitions
    published: JSONSchema = {"$schema": _DIALECT, **_without(site, ("title", IN_WORDS))}
    published["title"] = "Inhouse site file"
    return published


def _without(schema: Any, keys: tuple[str, ...]) -> Any:
    """The schema without annotations of these names; properties of such a name stay."""
    if isinstance(schema, list):
        return [_without(one, keys) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without(one, keys) for name, one in value.items()}
        if key in ("properties", "$defs")
        else _without(value, keys)
        for key, value in schema.items()
        if key not in keys
    }


def settings_table() -> str:
    """Every setting as Markdown tables: key, type, default, meaning (`docs/site-file.md`)."""
    site, use, config = view(SiteFile), view(ModelUse), view(ModelConfig)
    sections = [
        ("The site file", _rows(site, skip=("models",))),
        ("Entries of `models`: what the site says", _rows(use, under="models[].")),
        ("The model file, and overrides in entries of `models`", _rows(config)),
    ]
    lines: list[str] = []
    for title, rows in sections:
        lines += [f"### {title}", "", "| key | type | default | meaning |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines)


def _rows(
    of: View, place: Place = (), under: str = "", skip: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, str, str]]:
    schema = of.at(place) or {}
    for key, one in schema["properties"].items():
        if key in skip:
            continue
        resolved = of.resolved(one)
        if "properties" in resolved and "anyOf" not in one:
            yield from _rows(of, (*place, key), f"{under}{key}.")
            continue
        required = key in schema.get("required", ())
        meaning = str(resolved.get("description", "")).replace("|", "\\|")
        words = in_words(one, of).replace("|", "\\|")
        yield f"`{under}{key}`", words, "required" if required else _default(one), meaning
        if "properties" in resolved:  # a section that may be left out has a row of its own
            yield from _rows(of, (*place, key), f"{under}{key}.")
        if "properties" in of.resolved(resolved.get("items", {})):
            yield from _rows(of, (*place, key, 0), f"{under}{key}[].")
        if "properties" in (of.at((*place, key, "*", 0)) or {}):
            yield from _rows(of, (*place, key, "*", 0), f"{under}{key}.*[].")


def _default(schema: JSONSchema) -> str:
    value = schema.get("default", {} if "additionalProperties" in schema else None)
    return (
        "none" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"
    )
