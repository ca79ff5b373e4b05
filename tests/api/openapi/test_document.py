"""The OpenAPI document: every address that there is, and nothing that there is not."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Mount, WebSocketRoute

from serve.api.envelope import Envelope
from serve.api.fields import TABLES
from serve.api.fields.fate import Fate, Field
from serve.api.fields.shapes import BINARY
from serve.api.openapi import document
from serve.api.openapi.document import body_schema
from serve.api.openapi.operations import OPERATIONS
from serve.api.openapi.router import addresses
from serve.app import compose
from serve.core.errors import InvalidRequest
from serve.sites import dev_site, portfolio_of
from tests.conftest import Inhouse

DOCUMENT = document()
BODIES = [
    (f"{method} {path}", one.table)
    for (method, path), one in OPERATIONS.items()
    if one.table is not None
]
FIELDS = [
    (f"{table.endpoint}:{field.name}", field)
    for table in TABLES
    for field in table.fields.values()
    if field.fate is not Fate.REFUSED and field.check.schema != BINARY
]
WORDS = st.sampled_from(
    ["type", "function", "name", "role", "content", "text", "user", "assistant", "tool", "auto",
     "json_schema", "message", "input_text", "output_text", "id", "mode", "tools", "none", "24h",
     "allowed_tools", "include_usage", "format", "json_object", "effort", "low", "enabled",
     "ephemeral", "disabled", "display", "user_id", "1", "batch", "anchor", "seconds", "metadata"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)

MORE = st.dictionaries(WORDS, SCALARS, max_size=1)


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    site = dev_site(8000, "none", "info", tmp_path)
    asgi = compose(site, portfolio_of(site, {})).asgi
    assert isinstance(asgi, Envelope)
    inner = asgi._app
    assert isinstance(inner, FastAPI)
    return inner


def test_every_route_is_in_the_document_and_no_other(app: FastAPI) -> None:
    there = addresses(app.router.routes)
    assert len(there) == len(set(there)) > 40
    assert set(there) == OPERATIONS.keys()
    assert not any(isinstance(one, Mount | WebSocketRoute) for one in app.router.routes)
    assert document(there) == DOCUMENT


def test_an_address_that_nothing_is_known_of_is_a_defect() -> None:
    with pytest.raises(KeyError):
        document([("GET", "/v1/unknown")])
    assert list(document([("GET", "/v1/models")])["paths"]) == ["/v1/models"]


def test_every_schema_is_one() -> None:
    schemas = [*DOCUMENT["components"]["schemas"].values()]
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            schemas += [one["schema"] for one in operation.get("parameters", ())]
            for body in [operation.get("requestBody", {}), *operation["responses"].values()]:
                schemas += [one["schema"] for one in body.get("content", {}).values()]
    assert len(schemas) > 200
    for one in schemas:
        jsonschema.Draft202012Validator.check_schema(one)


def test_every_schema_that_is_named_is_there_and_used() -> None:
    named = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                named.add(value["$ref"].removeprefix("#/components/schemas/"))
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(DOCUMENT)
    assert named == set(DOCUMENT["components"]["schemas"])


def test_operations_have_names_of_their_own() -> None:
    ids = [one["operationId"] for m in DOCUMENT["paths"].values() for one in m.values()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)


def test_every_field_says_which_values_it_takes() -> None:
    assert [name for name, field in FIELDS if not field.check.schema] == []


@pytest.mark.parametrize(("name", "table"), BODIES, ids=[name for name, _ in BODIES])
def test_refused_fields_are_not_in_the_document(name: str, table: Any) -> None:
    shown = body_schema(table)
    refused = {f.name for f in table.fields.values() if f.fate is Fate.REFUSED}
    assert set(shown["properties"]) == table.fields.keys() - refused
    assert set(shown["required"]) <= set(shown["properties"])
    assert shown["additionalProperties"] is False


@given(st.data())
@settings(
    max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_what_a_check_takes_its_schema_takes(data: st.DataObject) -> None:
    name, field = data.draw(st.sampled_from(FIELDS), label="field")
    assert fault(field, data.draw(values_of(name))) is None, name


@cache
def values_of(name: str) -> st.SearchStrategy[Any]:
    """Values of a field, as a rule good ones."""
    return near(dict(FIELDS)[name].check.schema)


def near(schema: Any) -> st.SearchStrategy[Any]:
    """Values that are mostly of a schema, and here and there are not."""
    return st.one_of(*[_of(schema)] * 7, VALUES)


def _of(schema: Any) -> st.SearchStrategy[Any]:
    if "anyOf" in schema:
        return st.one_of(*map(near, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    return OF_KIND.get(kind[0] if isinstance(kind, list) else kind, _any)(schema)


def _any(schema: Any) -> st.SearchStrategy[Any]:
    return SCALARS


def _object(schema: Any) -> st.SearchStrategy[Any]:
    keys = {name: near(one) for name, one in schema.get("properties", {}).items()}
    need = {name: keys[name] for name in schema.get("required", ()) if name in keys}
    rest = {name: one for name, one in keys.items() if name not in need}
    whole = st.fixed_dictionaries(need, optional=rest)
    return st.one_of(whole, whole, st.builds(lambda one, more: one | more, whole, MORE))


def _array(schema: Any) -> st.SearchStrategy[Any]:
    return st.lists(near(schema.get("items", {})), max_size=3)


def _number(schema: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([schema.get("minimum", 0), schema.get("maximum", 9), 0, 1, -1, 2.5])


def _string(schema: Any) -> st.SearchStrategy[Any]:
    most = schema.get("maxLength", 1000)
    return WORDS | st.text(max_size=most + 1 if most < 100 else 3)


OF_KIND: dict[str, Callable[[Any], st.SearchStrategy[Any]]] = {
    "object": _object,
    "array": _array,
    "integer": _number,
    "number": _number,
    "string": _string,
}


def fault(field: Field, value: Any) -> str | None:
    """What is wrong between a field's check and its schema; `null` is no value."""
    if value is None:
        return None
    try:
        field.check.run(value, field.name)
    except InvalidRequest:
        return None
    found = jsonschema.Draft202012Validator(field.check.schema).is_valid(value)
    return None if found else f"{value!r} is taken, and is against the schema"


def test_it_is_printed(inhouse: Inhouse) -> None:
    ran = inhouse("openapi")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == orjson.loads(orjson.dumps(DOCUMENT))
