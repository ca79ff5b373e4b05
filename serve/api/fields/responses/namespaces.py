"""Tools of type `namespace`: functions and custom tools under a common name.

The engine knows no namespaces: the model is shown each tool under both names, and the items of
the API have them apart.
"""

from collections.abc import Callable
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import JSON
from serve.api.fields.responses.parts import known, required_text
from serve.api.fields.responses.toolset import Toolset
from serve.api.fields.tools import DESCRIPTION_MAX_CHARS, TOOLS_MAX
from serve.respond.offer import engine_name

_INSIDE: Final = ("function", "custom")


def read_namespace(
    tools: Toolset, tool: JSON, path: str, read: Callable[[Toolset, Any, str], None]
) -> None:
    """Add every tool of one namespace; `read` checks a tool of any type, and adds it."""
    known(tool, path, frozenset({"type", "name", "description", "tools"}))
    space = checks.name(required_text(tool, "name", path), f"{path}.name")
    about = checks.text(
        required_text(tool, "description", path), f"{path}.description", DESCRIPTION_MAX_CHARS
    )
    inside = Toolset()
    listed = checks.array(tool.get("tools"), f"{path}.tools", TOOLS_MAX, 1)
    for place, one in enumerate(listed):
        if type(one) is dict and one.get("type") not in (None, *_INSIDE):
            raise faults.not_one_of(f"{path}.tools[{place}].type", one.get("type"), _INSIDE)
        read(inside, one, f"{path}.tools[{place}]")
    if len(tools.engine) + len(listed) > TOOLS_MAX:
        raise faults.invalid(f"{path}.tools", f"more than {TOOLS_MAX} tools in all.")
    for one in inside.engine:
        function = one["function"]
        name, shown = function["name"], engine_name(space, function["name"])
        if shown in tools.kinds:
            raise faults.invalid(f"{path}.name", f"another tool is named '{shown}'.")
        told = "\n\n".join(filter(None, (about, function.get("description"))))
        tools.engine.append({**one, "function": {**function, "name": shown, "description": told}})
        tools.kinds[shown] = inside.kinds[name]
        tools.spaces[shown] = space, name
        if name in inside.strict:
            tools.strict[shown] = inside.strict[name]
    tools.shown.append(
        {"type": "namespace", "name": space, "description": about, "tools": inside.shown}
    )
