"""`tool_choice` of a Responses request."""

from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import JSON
from serve.api.fields.responses.tools import LABEL_MAX_CHARS
from serve.api.fields.responses.toolset import Toolset
from serve.api.fields.tools import TOOLS_MAX

_MODES: Final = ("none", "auto", "required")
_NAMED: Final = ("function", "custom", "mcp")
_BY_NAME: Final = "choose `function`, `custom` or `mcp` tools by name, or all tools by a mode."


@dataclass(frozen=True, slots=True)
class Choice:
    """`tool_choice` as the response repeats it, and what it asks of the tools.

    `mode` is none, auto or required, or None where `tools`, kinds and names, has the one that is
    to be called. Otherwise `tools` are those that the model is shown; None shows all. The name of
    an `mcp` tool is its server's label; `server_tool` is the one of its tools that is meant.
    """

    shown: Any
    mode: str | None
    tools: tuple[tuple[str, str], ...] | None = None
    server_tool: str | None = None


def read_choice(value: Any, param: str) -> Choice:
    """The shape of `tool_choice`; whether its tools exist is `choose`'s to say."""
    if type(value) is str:
        if value not in _MODES:
            raise faults.not_one_of(param, value, _MODES)
        return Choice(value, value)
    if type(value) is not dict:
        raise faults.wrong_type(param, "a string or an object", value)
    if value.get("type") == "allowed_tools":
        return _allowed(value, param)
    chosen = _named(value, param, (*_NAMED, "allowed_tools"))
    return Choice(value, None, (chosen,), value.get("name") if chosen[0] == "mcp" else None)


def _allowed(value: JSON, param: str) -> Choice:
    checks.keys(value, param, frozenset({"type", "mode", "tools"}))
    mode = value.get("mode")
    if mode not in ("auto", "required"):
        raise faults.not_one_of(f"{param}.mode", mode, ("auto", "required"))
    tools = checks.array(value.get("tools"), f"{param}.tools", TOOLS_MAX, 1)
    named = tuple(
        _named(tool, f"{param}.tools[{place}]", _NAMED) for place, tool in enumerate(tools)
    )
    for place, tool in enumerate(tools):
        if tool["type"] == "mcp" and tool.get("name") is not None:
            raise faults.unsupported(
                f"{param}.tools[{place}].name",
                "a server is allowed as a whole; name its tools in its `allowed_tools`.",
            )
    return Choice(value, mode, named)


def _named(value: Any, path: str, kinds: tuple[str, ...]) -> tuple[str, str]:
    if type(value) is not dict:
        raise faults.wrong_type(path, "an object", value)
    kind = value.get("type")
    if kind is None:
        raise faults.missing(f"{path}.type")
    if kind not in _NAMED:
        if type(kind) is str:
            raise faults.unsupported_value(f"{path}.type", kind, _BY_NAME)
        raise faults.not_one_of(f"{path}.type", kind, kinds)
    if kind == "mcp":
        return kind, _server(value, path)
    checks.keys(value, path, frozenset({"type", "name"}))
    if (name := value.get("name")) is None:
        raise faults.missing(f"{path}.name")
    return kind, checks.name(name, f"{path}.name")


def _server(value: JSON, path: str) -> str:
    checks.keys(value, path, frozenset({"type", "server_label", "name"}))
    if (name := value.get("name")) is not None:
        checks.text(name, f"{path}.name", 256, 1)
    if (label := value.get("server_label")) is None:
        raise faults.missing(f"{path}.server_label")
    return checks.text(label, f"{path}.server_label", LABEL_MAX_CHARS, 1)


def choose(tools: Toolset, choice: Choice) -> tuple[Toolset, str | JSON]:
    """The tools the model is shown, and the `tool_choice` the engine is given.

    Raises InvalidRequest for a choice without tools, or of a tool that is not there.
    """
    if choice.mode in ("auto", "none") and choice.tools is None:
        return tools, choice.mode
    if not tools.shown:
        raise faults.invalid("tool_choice", "it is only allowed when 'tools' are specified.")
    if choice.tools is None:
        return tools, choice.mode or "auto"
    listed = choice.mode is not None
    for place, (kind, name) in enumerate(choice.tools):
        if kind == "mcp":
            there = any(one["server_label"] == name for one in tools.server)
        else:
            there = tools.kinds.get(name) == kind
        if not there:
            path = f"tool_choice.tools[{place}].name" if listed else "tool_choice.name"
            raise faults.invalid(path, f"no {kind} in 'tools' is named '{name}'.")
    if choice.mode is not None:
        names = frozenset(name for kind, name in choice.tools if kind != "mcp")
        labels = frozenset(name for kind, name in choice.tools if kind == "mcp")
        return tools.only(names, labels), choice.mode
    ((kind, name),) = choice.tools
    if kind == "mcp":
        return tools, {"type": "mcp", "server_label": name, "name": choice.server_tool}
    return tools, {"type": "function", "function": {"name": name}}
