"""Anthropic's tools and `tool_choice`, as a chat's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.anthropic.turns import check_cache_control
from serve.api.fields.messages import JSON
from serve.api.fields.schema import check_schema
from serve.api.fields.tools import DESCRIPTION_MAX_CHARS, Toolbox

TOOLS_MAX: Final = 512
"""Agents bring the tools of every MCP server that they know."""
NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")

_ELSEWHERE: Final = (
    "tools that Anthropic's servers run or know are not here; give a tool an `input_schema`."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """`tool_choice` as the engine takes it, and whether one answer may call several."""

    engine: str | JSON
    parallel: bool


def read_tools(value: Any, param: str) -> Toolbox:
    """Check every tool; raises InvalidRequest with the path of the value at fault."""
    checks.array(value, param, TOOLS_MAX)
    strict: dict[str, JSON] = {}
    names: dict[str, None] = {}
    tools = []
    for place, tool in enumerate(value):
        path = f"{param}[{place}]"
        function = _read_tool(tool, path)
        name = function["name"]
        if name in names:
            raise faults.invalid(f"{path}.name", f"another tool is named '{name}'.")
        names[name] = None
        if function.get("strict"):
            strict[name] = function["parameters"]
        tools.append({"type": "function", "function": function})
    return Toolbox(tools, tuple(names), strict)


def _read_tool(tool: Any, path: str) -> JSON:
    if type(tool) is not dict:
        raise faults.wrong_type(path, "an object", tool)
    kind = tool.get("type")
    if kind is not None and kind != "custom":
        raise faults.unsupported_value(f"{path}.type", kind, _ELSEWHERE)
    checks.keys(tool, path, _TOOL_KEYS)
    for key in ("name", "input_schema"):
        if tool.get(key) is None:
            raise faults.missing(f"{path}.{key}")
    kept: JSON = {"name": _name(tool["name"], f"{path}.name")}
    if (description := tool.get("description")) is not None:
        kept["description"] = checks.text(description, f"{path}.description", DESCRIPTION_MAX_CHARS)
    strict = _flag(tool, "strict", path)
    kept["parameters"] = check_schema(
        tool["input_schema"], f"{path}.input_schema", matched_here=strict is True
    )
    if strict is not None:
        kept["strict"] = strict
    _flag(tool, "eager_input_streaming", path)
    check_cache_control(tool.get("cache_control"), f"{path}.cache_control")
    _refuse_more(tool, path)
    return kept


def _refuse_more(tool: JSON, path: str) -> None:
    """What would change which tools the model sees, or how."""
    if _flag(tool, "defer_loading", path):
        raise faults.unsupported_value(
            f"{path}.defer_loading", "true", "there is no tool search; all tools are shown."
        )
    if tool.get("input_examples"):
        raise faults.unsupported(
            f"{path}.input_examples", "no chat template reads them; use the description."
        )
    callers = tool.get("allowed_callers")
    if callers is not None and callers != ["direct"]:
        raise faults.invalid(f"{path}.allowed_callers", 'only `["direct"]`: the model itself.')


def read_choice(value: Any, param: str) -> Choice:
    """The shape of `tool_choice`; whether its tool exists is `choose`'s to say."""
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    kind = value.get("type")
    if kind is None:
        raise faults.missing(f"{param}.type")
    if type(kind) is not str or kind not in _CHOICES:
        raise faults.not_one_of(f"{param}.type", kind, _CHOICES)
    checks.keys(value, param, _CHOICE_KEYS)
    parallel = not _flag(value, "disable_parallel_tool_use", param)
    if kind != "tool":
        return Choice(_CHOICES[kind], parallel)
    if value.get("name") is None:
        raise faults.missing(f"{param}.name")
    name = _name(value["name"], f"{param}.name")
    return Choice({"type": "function", "function": {"name": name}}, parallel)


def choose(box: Toolbox, choice: Choice) -> None:
    """Raise InvalidRequest where the choice asks for a tool that is not there."""
    if type(choice.engine) is dict:
        name = choice.engine["function"]["name"]
        if name not in box.names:
            raise faults.invalid("tool_choice.name", f"no tool in 'tools' is named '{name}'.")
    elif choice.engine == "required" and not box.tools:
        raise faults.invalid("tool_choice", "it asks for a call, and 'tools' is empty.")


def _name(value: Any, param: str) -> str:
    if type(value) is not str:
        raise faults.wrong_type(param, "a string", value)
    if NAME.fullmatch(value) is None:
        raise faults.invalid(
            param,
            "expected 1 to 128 letters, digits, underscores and dashes, "
            f"but got {faults.shown(value)} instead.",
        )
    return value


def _flag(owner: JSON, key: str, path: str) -> bool | None:
    value: bool | None = owner.get(key)
    if value is not None and type(value) is not bool:
        raise faults.wrong_type(f"{path}.{key}", "a boolean", value)
    return value


_TOOL_KEYS: Final = frozenset(
    {"type", "name", "description", "input_schema", "strict", "cache_control", "defer_loading",
     "eager_input_streaming", "input_examples", "allowed_callers"}
)  # fmt: skip
_CHOICE_KEYS: Final = frozenset({"type", "name", "disable_parallel_tool_use"})
_CHOICES: Final[Mapping[str, str]] = {
    "auto": "auto",
    "any": "required",
    "none": "none",
    "tool": "",
}
