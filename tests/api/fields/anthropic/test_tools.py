"""Anthropic's tools become a chat's."""

from typing import Any

import pytest

from serve.api.fields.anthropic.tools import Choice, choose, read_choice, read_tools
from serve.api.fields.tools import Toolbox
from serve.core.errors import InvalidRequest

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL: dict[str, Any] = {"name": "f", "input_schema": SCHEMA}


def test_a_tool_is_a_function() -> None:
    box = read_tools([TOOL | {"description": "d", "type": "custom", "strict": True}], "tools")
    function = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
    assert box.tools == [{"type": "function", "function": function}]
    assert (box.names, box.strict) == (("f",), {"f": SCHEMA})


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        (7, "tools[0]"),
        ({"input_schema": SCHEMA}, "tools[0].name"),
        ({"name": "f"}, "tools[0].input_schema"),
        (TOOL | {"name": "no spaces"}, "tools[0].name"),
        (TOOL | {"name": "x" * 129}, "tools[0].name"),
        (TOOL | {"type": "bash_20250124"}, "tools[0].type"),
        (TOOL | {"type": "web_search_20260318"}, "tools[0].type"),
        (TOOL | {"strict": "yes"}, "tools[0].strict"),
        (TOOL | {"input_examples": [{"a": 1}]}, "tools[0].input_examples"),
        (TOOL | {"allowed_callers": ["code_execution_20250825"]}, "tools[0].allowed_callers"),
        (TOOL | {"defer_loading": True}, "tools[0].defer_loading"),
        (TOOL | {"input_schema": {"type": "thing"}}, "tools[0].input_schema.type"),
        (TOOL | {"shiny": 1}, "tools[0].shiny"),
    ],
)
def test_a_bad_tool_is_named_by_its_path(tool: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_tools([tool], "tools")
    assert caught.value.param == param


def test_two_tools_of_one_name() -> None:
    with pytest.raises(InvalidRequest, match="another tool"):
        read_tools([TOOL, TOOL], "tools")


NAMED = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ({"type": "auto"}, Choice("auto", parallel=True)),
        ({"type": "any", "disable_parallel_tool_use": True}, Choice("required", parallel=False)),
        ({"type": "none"}, Choice("none", parallel=True)),
        ({"type": "tool", "name": "f"}, Choice(NAMED, parallel=True)),
    ],
)
def test_choices(value: Any, choice: Choice) -> None:
    read = read_choice(value, "tool_choice")
    assert read == choice
    choose(read_tools([TOOL], "tools"), read)


@pytest.mark.parametrize(
    "value", ["auto", {}, {"type": "required"}, {"type": "tool"}, {"type": "auto", "x": 1}]
)
def test_bad_choices(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        read_choice(value, "tool_choice")


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_choice_without_its_tool(choice: Any) -> None:
    with pytest.raises(InvalidRequest):
        choose(Toolbox(), Choice(choice, parallel=True))
