"""The form an answer must take: `response_format`, and vLLM's `structured_outputs`."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import JSON
from serve.api.fields.patterns import check_pattern
from serve.api.fields.schema import check_schema
from serve.api.fields.tools import DESCRIPTION_MAX_CHARS

CHOICES_MAX: Final = 256
"""Alternatives in `structured_outputs.choice`."""
CHOICE_MAX_CHARS: Final = 1024


def read_response_format(value: Any, param: str) -> JSON:
    """`text`, `json_object` or `json_schema`, as the engine takes it."""
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    match value.get("type"):
        case None:
            raise faults.missing(f"{param}.type")
        case "text" | "json_object" as kind:
            checks.keys(value, param, frozenset({"type"}))
            return {"type": kind}
        case "json_schema":
            checks.keys(value, param, frozenset({"type", "json_schema"}))
            return {
                "type": "json_schema",
                "json_schema": read_named_schema(value.get("json_schema"), f"{param}.json_schema"),
            }
        case other:
            raise faults.not_one_of(f"{param}.type", other, ("text", "json_object", "json_schema"))


def read_named_schema(value: Any, path: str) -> JSON:
    """A schema with its name; raises InvalidRequest with the path of the value at fault."""
    if value is None:
        raise faults.missing(path)
    checks.keys(value, path, frozenset({"name", "description", "schema", "strict"}))
    for key in ("name", "schema"):
        if value.get(key) is None:
            raise faults.missing(f"{path}.{key}")
    kept: JSON = {
        "name": checks.name(value["name"], f"{path}.name"),
        "schema": check_schema(value["schema"], f"{path}.schema"),
    }
    if (description := value.get("description")) is not None:
        kept["description"] = checks.text(description, f"{path}.description", DESCRIPTION_MAX_CHARS)
    if (strict := value.get("strict")) is not None:
        if type(strict) is not bool:
            raise faults.wrong_type(f"{path}.strict", "a boolean", strict)
        kept["strict"] = strict
    return kept


def read_structured_outputs(value: Any, param: str) -> JSON:
    """Exactly one of `json`, `choice`, `regex` and `json_object`, and how to space the JSON."""
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    for key in ("grammar", "structural_tag", "whitespace_pattern"):
        if value.get(key) is not None:
            raise faults.unsupported(
                f"{param}.{key}",
                "compiling it is not bounded; use `json`, `regex` or `choice`.",
            )
    checks.keys(value, param, _KEYS)
    kept = {
        key: _STRUCTURED[key](inner, f"{param}.{key}")
        for key, inner in value.items()
        if inner is not None and key in _STRUCTURED
    }
    if len(_CONSTRAINTS & kept.keys()) != 1:
        raise faults.invalid(param, "expected exactly one of json, choice, regex, json_object.")
    return kept


def _choice(value: Any, param: str) -> list[str]:
    checks.array(value, param, CHOICES_MAX, 1)
    return [
        checks.text(one, f"{param}[{place}]", CHOICE_MAX_CHARS, 1)
        for place, one in enumerate(value)
    ]


def _regex(value: Any, param: str) -> str:
    return check_pattern(value, param, matched_here=False)


def _json_object(value: Any, param: str) -> bool:
    if value is not True:
        raise faults.invalid(param, "expected true; leave it out otherwise.")
    return True


_flag: Final = checks.boolean().run
_STRUCTURED: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "json": check_schema,
    "choice": _choice,
    "regex": _regex,
    "json_object": _json_object,
    "disable_any_whitespace": _flag,
    "disable_additional_properties": _flag,
}
_CONSTRAINTS: Final = frozenset({"json", "choice", "regex", "json_object"})
_KEYS: Final = frozenset({*_STRUCTURED, "grammar", "structural_tag", "whitespace_pattern"})
