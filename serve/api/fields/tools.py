"""The tools of a chat, and which of them the model may or must call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import CALLS_MAX, JSON
from serve.api.fields.schema import check_schema

TOOLS_MAX: Final = CALLS_MAX
DESCRIPTION_MAX_CHARS: Final = 32_768


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Checked tools: as the engine takes them, by name, and the strict ones' schemas."""

    tools: list[JSON] = field(default_factory=list)
    names: tuple[str, ...] = ()
    strict: Mapping[str, JSON] = field(default_factory=dict)


def read_tools(value: Any, param: str) -> Toolbox:
    """Check every tool; raises InvalidRequest with the path of the value at fault."""
    checks.array(value, param, TOOLS_MAX, 1)
    strict: dict[str, JSON] = {}
    names: dict[str, None] = {}
    tools = []
    for place, tool in enumerate(value):
        path = f"{param}[{place}]"
        function = _read_tool(tool, path)
        name = function["name"]
        if name in names:
            raise faults.invalid(f"{path}.function.name", f"another tool is named '{name}'.")
        names[name] = None
        if function.get("strict"):
            strict[name] = function["parameters"]
        tools.append({"type": "function", "function": function})
    return Toolbox(tools, tuple(names), strict)


def _read_tool(tool: Any, path: str) -> JSON:
    if type(tool) is not dict:
        raise faults.wrong_type(path, "an object", tool)
    kind = tool.get("type")
    if kind is None:
        raise faults.missing(f"{path}.type")
    if kind != "function":
        raise faults.unsupported_value(
            f"{path}.type", kind, "only `function` tools can be called by models served here."
        )
    checks.keys(tool, path, _TOOL_KEYS)
    path = f"{path}.function"
    if (function := tool.get("function")) is None:
        raise faults.missing(path)
    checks.keys(function, path, _FUNCTION_KEYS)
    if (name := function.get("name")) is None:
        raise faults.missing(f"{path}.name")
    kept: JSON = {"name": checks.name(name, f"{path}.name")}
    if (description := function.get("description")) is not None:
        kept["description"] = checks.text(description, f"{path}.description", DESCRIPTION_MAX_CHARS)
    strict = function.get("strict")
    if strict is not None and type(strict) is not bool:
        raise faults.wrong_type(f"{path}.strict", "a boolean", strict)
    if (parameters := function.get("parameters")) is not None:
        kept["parameters"] = check_schema(
            parameters, f"{path}.parameters", matched_here=strict is True
        )
    elif strict:
        kept["parameters"] = {"type": "object", "properties": {}, "additionalProperties": False}
    if strict is not None:
        kept["strict"] = strict
    return kept


def read_choice(value: Any, param: str) -> str | JSON:
    """The shape of `tool_choice`; whether its tools exist is `choose`'s to say."""
    if type(value) is str:
        if value not in _MODES:
            raise faults.not_one_of(param, value, _MODES)
        return value
    if type(value) is not dict:
        raise faults.wrong_type(param, "a string or an object", value)
    match value.get("type"):
        case "function":
            checks.keys(value, param, _TOOL_KEYS)
            return {"type": "function", "function": {"name": _choice_name(value, param)}}
        case "allowed_tools":
            return _read_allowed(value, param)
        case None:
            raise faults.missing(f"{param}.type")
        case "custom":
            raise faults.unsupported_value(f"{param}.type", "custom", "only `function` tools.")
        case other:
            raise faults.not_one_of(f"{param}.type", other, ("function", "allowed_tools"))


def _read_allowed(value: JSON, param: str) -> JSON:
    checks.keys(value, param, frozenset({"type", "allowed_tools"}))
    path = f"{param}.allowed_tools"
    allowed = value.get("allowed_tools")
    if allowed is None:
        raise faults.missing(path)
    checks.keys(allowed, path, frozenset({"mode", "tools"}))
    mode = allowed.get("mode")
    if mode not in ("auto", "required"):
        raise faults.not_one_of(f"{path}.mode", mode, ("auto", "required"))
    tools = checks.array(allowed.get("tools"), f"{path}.tools", TOOLS_MAX, 1)
    names = [_allowed_name(tool, f"{path}.tools[{place}]") for place, tool in enumerate(tools)]
    return {"type": "allowed_tools", "mode": mode, "names": names}


def _allowed_name(tool: Any, path: str) -> str:
    checks.keys(tool, path, _TOOL_KEYS)
    if tool.get("type") != "function":
        raise faults.unsupported_value(f"{path}.type", tool.get("type"), "only `function` tools.")
    return _choice_name(tool, path)


def _choice_name(value: JSON, param: str) -> str:
    function = value.get("function")
    if function is None:
        raise faults.missing(f"{param}.function")
    checks.keys(function, f"{param}.function", frozenset({"name"}))
    if (name := function.get("name")) is None:
        raise faults.missing(f"{param}.function.name")
    return checks.name(name, f"{param}.function.name")


def choose(box: Toolbox | None, choice: str | JSON | None) -> tuple[Toolbox, str | JSON | None]:
    """The tools the model is shown, and the `tool_choice` the engine is given.

    `allowed_tools` becomes a shorter list of tools. Raises InvalidRequest for a choice without
    tools, or of a tool that is not there.
    """
    if box is None:
        if choice is not None and choice != "none":
            raise faults.invalid("tool_choice", "it is only allowed when 'tools' are specified.")
        return Toolbox(), None
    if choice is None or type(choice) is str:
        return box, choice or "auto"
    assert type(choice) is dict
    if choice["type"] == "function":
        _must_have(box, choice["function"]["name"], "tool_choice.function.name")
        return box, choice
    for place, name in enumerate(choice["names"]):
        _must_have(box, name, f"tool_choice.allowed_tools.tools[{place}].function.name")
    allowed = frozenset(choice["names"])
    shown = Toolbox(
        [tool for tool in box.tools if tool["function"]["name"] in allowed],
        tuple(name for name in box.names if name in allowed),
        {name: schema for name, schema in box.strict.items() if name in allowed},
    )
    return shown, choice["mode"]


def _must_have(box: Toolbox, name: str, param: str) -> None:
    if name not in box.names:
        raise faults.invalid(param, f"no tool in 'tools' is named '{name}'.")


_MODES: Final = ("none", "auto", "required")
_TOOL_KEYS: Final = frozenset({"type", "function"})
_FUNCTION_KEYS: Final = frozenset({"name", "description", "parameters", "strict"})
