"""A client's JSON Schema: what passes is what `jsonschema` takes, and nothing hurts."""

from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.api.fields import schema
from serve.api.fields.schema import check_schema
from serve.core.errors import InvalidRequest

PERSON: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        "friend": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        "home": {"$ref": "#/$defs/place"},
        "$ref": {"const": {"$ref": "http://not.a.reference"}},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"place": {"type": ["string", "null"], "x-note": "unknown keywords are notes"}},
}


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels - 1):
        inner = {"not": inner}
    return inner


def doubling(levels: int) -> dict[str, Any]:
    last = f"d{levels}"
    defs: dict[str, Any] = {last: {}}
    for level in range(levels):
        below = {"$ref": f"#/$defs/d{level + 1}"}
        defs[f"d{level}"] = {"allOf": [below, dict(below)]}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def test_an_ordinary_schema_is_taken_as_it_is() -> None:
    assert check_schema(PERSON, "s", matched_here=True) is PERSON
    jsonschema.Draft202012Validator(PERSON).validate({"name": "Ann", "friend": {"name": "Bo"}})


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "s"),
        ({"type": "text"}, "s.type"),
        ({"type": []}, "s.type"),
        ({"type": ["string", "string"]}, "s.type"),
        ({"properties": []}, "s.properties"),
        ({"properties": {"a": 5}}, "s.properties.a"),
        ({"properties": {"a": {"items": [{}]}}}, "s.properties.a.items"),
        ({"required": "a"}, "s.required"),
        ({"required": ["a", "a"]}, "s.required"),
        ({"anyOf": []}, "s.anyOf"),
        ({"allOf": [{"minimum": "1"}]}, "s.allOf[0].minimum"),
        ({"minLength": -1}, "s.minLength"),
        ({"multipleOf": 0}, "s.multipleOf"),
        ({"exclusiveMinimum": True}, "s.exclusiveMinimum"),
        ({"enum": "a"}, "s.enum"),
        ({"pattern": "(a+)+"}, "s.pattern"),
        ({"patternProperties": {"(": {}}}, "s.patternProperties"),
        ({"$ref": "http://example.org/s.json"}, "s.$ref"),
        ({"$ref": "other.json"}, "s.$ref"),
        ({"$ref": "#anchor"}, "s.$ref"),
        ({"$ref": "#/$defs/none"}, "s.$ref"),
        ({"$ref": "#/enum/0", "enum": [5]}, "s.$ref"),
        ({"$ref": "#/x", "x": {"type": 5}}, "s.$ref.type"),
        ({"$ref": "#"}, "s"),
        ({"anyOf": [{"type": "string"}, {"not": {"$ref": "#"}}]}, "s"),
        ({"$dynamicRef": "#a"}, "s.$dynamicRef"),
        ({"$id": "http://example.org/"}, "s.$id"),
        (nested(66), "s"),
        ({"description": "x" * schema.SCHEMA_MAX_BYTES}, "s"),
        ({"properties": {str(i): {} for i in range(schema.SCHEMA_MAX_PARTS)}}, "s"),
        (doubling(30), "s"),
    ],
)
def test_what_is_wrong_or_would_hurt_is_refused_by_its_path(value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_schema(value, "s", matched_here=True)
    assert caught.value.param == param


def test_depth_is_bounded_where_vllm_bounds_it() -> None:
    assert check_schema(nested(64), "s")
    with pytest.raises(InvalidRequest):
        check_schema(nested(300), "s")


def test_a_schema_good_for_the_engine_is_looked_at_again_when_strict() -> None:
    value = {"pattern": "(a+)+"}
    assert check_schema(value, "s") is value
    with pytest.raises(InvalidRequest):
        check_schema(value, "s", matched_here=True)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "REMEMBERED", 3)
    monkeypatch.setattr(schema, "_good", {})
    for size in range(10):
        check_schema({"maxLength": size}, "s")
    assert len(schema._good) == 3


def test_a_key_as_long_as_the_schema_is_not_copied_into_every_path() -> None:
    inner: dict[str, Any] = {"properties": {str(i): {} for i in range(2000)}}
    value = {"properties": {"k" * 100_000: {**inner, "type": "objekt"}}}
    with pytest.raises(InvalidRequest) as caught:
        check_schema(value, "s")
    assert len(caught.value.message) < 600


KEYWORDS = st.sampled_from([*schema._VALUES, *schema._NESTING, "$ref", "pattern", "const", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["string", "#", "a", "["]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYWORDS, JSON, max_size=4), JSON)
@settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_what_passes_never_breaks_the_validator(value: dict[str, Any], instance: Any) -> None:
    try:
        check_schema(value, "s", matched_here=True)
    except InvalidRequest:
        return
    jsonschema.Draft202012Validator.check_schema(value)
    list(jsonschema.Draft202012Validator(value).iter_errors(instance))
