"""Tools in a namespace: what the model is shown, and what is refused."""

from typing import Any

import pytest

from serve.api.fields import check_response
from serve.api.fields.tools import TOOLS_MAX
from serve.core.errors import InvalidRequest
from serve.respond.asked import Asked
from serve.settings.site import Limits

PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
FUNCTION = {"type": "function", "name": "find", "parameters": PARAMETERS, "strict": True}
CUSTOM = {"type": "custom", "name": "note", "description": "Takes a note."}
SPACE: dict[str, Any] = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [FUNCTION, CUSTOM],
}


def asked(*tools: Any) -> Asked:
    return check_response({"model": "m", "input": "hi", "tools": list(tools)}, Limits())


def test_the_model_is_shown_both_names_and_what_each_is_for() -> None:
    found = asked(SPACE, FUNCTION)
    shown = {tool["function"]["name"]: tool["function"] for tool in found.engine_body["tools"]}
    assert list(shown) == ["crm__find", "crm__note", "find"]
    assert shown["crm__find"]["description"] == "Customers."
    assert shown["crm__note"]["description"] == "Customers.\n\nTakes a note."
    assert found.namespaces == {"crm__find": ("crm", "find"), "crm__note": ("crm", "note")}
    assert found.strict_tools["crm__find"] == PARAMETERS
    assert found.custom_tools == {"crm__note"}


def test_the_response_repeats_the_namespace() -> None:
    (shown,) = asked(SPACE).echo["tools"]
    assert (shown["type"], shown["name"], shown["description"]) == (
        "namespace",
        "crm",
        "Customers.",
    )
    assert [tool["name"] for tool in shown["tools"]] == ["find", "note"]


def test_a_name_too_long_for_the_engine_is_shortened() -> None:
    long = {**SPACE, "name": "n" * 60}
    (first, _) = asked(long).engine_body["tools"]
    assert len(first["function"]["name"]) == 64
    assert asked(long).namespaces[first["function"]["name"]] == ("n" * 60, "find")


@pytest.mark.parametrize(
    ("space", "param", "code"),
    [
        ({"description": None}, "tools[0].description", "missing_required_parameter"),
        ({"name": "a b"}, "tools[0].name", "invalid_value"),
        ({"tools": None}, "tools[0].tools", "invalid_type"),
        ({"tools": []}, "tools[0].tools", "empty_array"),
        ({"tools": [SPACE]}, "tools[0].tools[0].type", "invalid_value"),
        ({"tools": [{}]}, "tools[0].tools[0].type", "missing_required_parameter"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools[0].tools[1].name", "invalid_value"),
        ({"tools": [{**CUSTOM, "name": f"t{n}"} for n in range(TOOLS_MAX)]}, None, None),
        ({"extra": 1}, "tools[0].extra", "unknown_parameter"),
    ],
)
def test_what_is_no_namespace_is_refused_by_its_path(
    space: dict[str, Any], param: str | None, code: str | None
) -> None:
    if param is None:
        assert len(asked({**SPACE, **space}).namespaces) == TOOLS_MAX
        return
    with pytest.raises(InvalidRequest) as caught:
        asked({**SPACE, **space})
    assert (caught.value.param, caught.value.code) == (param, code)


def test_no_more_tools_in_namespaces_than_elsewhere() -> None:
    full = {**SPACE, "tools": [{**CUSTOM, "name": f"t{n}"} for n in range(TOOLS_MAX)]}
    with pytest.raises(InvalidRequest) as caught:
        asked(FUNCTION, full)
    assert caught.value.param == "tools[1].tools"


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked({**FUNCTION, "name": "crm__find"}, SPACE)
    assert "crm__find" in caught.value.message
