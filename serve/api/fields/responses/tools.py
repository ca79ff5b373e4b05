"""The tools of a Responses request, and which of them the model may or must call."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.messages import JSON
from serve.api.fields.responses.namespaces import read_namespace
from serve.api.fields.responses.parts import known, required_text
from serve.api.fields.responses.toolset import Toolset
from serve.api.fields.schema import check_schema
from serve.api.fields.tools import DESCRIPTION_MAX_CHARS, TOOLS_MAX
from serve.core.errors import InvalidRequest

LABEL_MAX_CHARS: Final = 64

_FUNCTIONS: Final = "there are no hosted tools here; give the model `function` tools."
_REFUSED: Final[Mapping[str, str]] = {
    "tool_search": "list all tools in `tools`.",
    "programmatic_tool_calling": "only the model calls tools.",
    **dict.fromkeys(
        (
            "web_search",
            "web_search_2025_08_26",
            "web_search_preview",
            "web_search_preview_2025_03_11",
            "file_search",
            "computer",
            "computer_use",
            "computer_use_preview",
            "code_interpreter",
            "image_generation",
            "local_shell",
            "shell",
            "apply_patch",
        ),
        _FUNCTIONS,
    ),
}
_SITE_SERVERS: Final = (
    "name one of the site's servers by `server_label`; addresses and secrets are in the site file."
)
_FREE_TEXT: Final[JSON] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
"""The parameters of a custom tool, as the model sees them."""


def read_tools(value: Any, param: str) -> Toolset:
    """Check every tool; raises InvalidRequest with the path of the value at fault."""
    checks.array(value, param, TOOLS_MAX)
    tools = Toolset()
    for place, tool in enumerate(value):
        _read_tool(tools, tool, f"{param}[{place}]")
    return tools


def _read_tool(tools: Toolset, tool: Any, path: str) -> None:
    if type(tool) is not dict:
        raise faults.wrong_type(path, "an object", tool)
    kind = tool.get("type")
    if kind is None:
        raise faults.missing(f"{path}.type")
    read = _READERS.get(kind) if type(kind) is str else None
    if read is None:
        if type(kind) is str and kind in _REFUSED:
            raise faults.unsupported_value(f"{path}.type", kind, _REFUSED[kind])
        raise faults.not_one_of(f"{path}.type", kind, _READERS)
    read(tools, tool, path)


def _function(tools: Toolset, tool: JSON, path: str) -> None:
    known(tool, path, _FUNCTION_KEYS)
    name = _name(tools, tool, path)
    _plain(tool, path)
    output = tool.get("output_schema")
    if output is not None and type(output) is not dict:
        raise faults.wrong_type(f"{path}.output_schema", "an object", output)
    strict, parameters = _parameters(tool, path)
    description = _description(tool, path)
    function: JSON = {"name": name}
    if description is not None:
        function["description"] = description
    function["parameters"] = parameters
    function["strict"] = strict
    tools.engine.append({"type": "function", "function": function})
    tools.shown.append(
        {
            "type": "function",
            "name": name,
            "description": description,
            "parameters": parameters,
            "strict": strict,
        }
    )
    tools.kinds[name] = "function"
    if strict:
        tools.strict[name] = parameters


def _parameters(tool: JSON, path: str) -> tuple[bool, JSON]:
    """Whether a function is strict, and its schema.

    Strict is what a function is where it does not say, unless its schema cannot be.
    """
    path = f"{path}.parameters"
    strict = tool.get("strict")
    if strict is not None and type(strict) is not bool:
        raise faults.wrong_type(f"{path.rpartition('.')[0]}.strict", "a boolean", strict)
    parameters = tool.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
        if strict is not False:
            parameters["additionalProperties"] = False
    if strict is not None:
        return strict, check_schema(parameters, path, matched_here=strict)
    try:
        return True, check_schema(parameters, path, matched_here=True)
    except InvalidRequest:
        return False, check_schema(parameters, path)


def _custom(tools: Toolset, tool: JSON, path: str) -> None:
    known(tool, path, _CUSTOM_KEYS)
    name = _name(tools, tool, path)
    _plain(tool, path)
    _text_format(tool.get("format"), f"{path}.format")
    description = _description(tool, path)
    told = {} if description is None else {"description": description}
    function = {"name": name, **told, "parameters": _FREE_TEXT, "strict": True}
    tools.engine.append({"type": "function", "function": function})
    tools.shown.append({"type": "custom", "name": name, **told, "format": {"type": "text"}})
    tools.kinds[name] = "custom"
    tools.strict[name] = _FREE_TEXT


def _text_format(value: Any, path: str) -> None:
    if value is None:
        return
    if type(value) is not dict:
        raise faults.wrong_type(path, "an object", value)
    kind = value.get("type")
    if kind == "grammar":
        raise faults.unsupported_value(
            f"{path}.type", kind, "compiling it is not bounded; use `text`, or a `function` tool."
        )
    if kind != "text":
        raise faults.not_one_of(f"{path}.type", kind, ("text",))
    known(value, path, frozenset({"type"}))


def _namespace(tools: Toolset, tool: JSON, path: str) -> None:
    read_namespace(tools, tool, path, _read_tool)


def _mcp(tools: Toolset, tool: JSON, path: str) -> None:
    """A server of the site's, by its label; whether there is one `request` checks.

    `require_approval` stays None where the request leaves it to the site.
    """
    known(tool, path, _MCP_KEYS)
    for key in ("server_url", "connector_id", "tunnel_id", "authorization", "headers"):
        if tool.get(key) is not None:
            raise faults.unsupported(f"{path}.{key}", _SITE_SERVERS)
    label = required_text(tool, "server_label", path, LABEL_MAX_CHARS)
    if any(one["server_label"] == label for one in tools.server):
        raise faults.invalid(f"{path}.server_label", f"another server is labelled '{label}'.")
    _plain(tool, path)
    kept: JSON = {"type": "mcp", "server_label": label}
    if (told := tool.get("server_description")) is not None:
        kept["server_description"] = checks.text(
            told, f"{path}.server_description", DESCRIPTION_MAX_CHARS
        )
    kept["allowed_tools"] = _filter(tool.get("allowed_tools"), f"{path}.allowed_tools")
    kept["require_approval"] = _approval(tool.get("require_approval"), f"{path}.require_approval")
    tools.server.append(kept)
    tools.shown.append(kept)


_names: Final = checks.items(checks.string(256, minimum_chars=1), TOOLS_MAX).run


def _filter(value: Any, path: str) -> Any:
    """Which of a server's tools are shown: a list of names, or a filter; None for all."""
    if value is None or type(value) is list:
        return None if value is None else _names(value, path)
    known(value, path, frozenset({"tool_names", "read_only"}))
    kept: JSON = {}
    if (names := value.get("tool_names")) is not None:
        kept["tool_names"] = _names(names, f"{path}.tool_names")
    if (read_only := value.get("read_only")) is not None:
        kept["read_only"] = checks.boolean().run(read_only, f"{path}.read_only")
    return kept


def _approval(value: Any, path: str) -> Any:
    """Which calls wait for the client: all, none, or by filters."""
    if value is None:
        return None
    if type(value) is str:
        if value not in ("always", "never"):
            raise faults.not_one_of(path, value, ("always", "never"))
        return value
    known(value, path, frozenset({"always", "never"}))
    kept: JSON = {}
    for key in ("always", "never"):
        if (filtered := value.get(key)) is not None:
            if type(filtered) is not dict:
                raise faults.wrong_type(f"{path}.{key}", "an object", filtered)
            kept[key] = _filter(filtered, f"{path}.{key}")
    return kept


def _name(tools: Toolset, tool: JSON, path: str) -> str:
    if (name := tool.get("name")) is None:
        raise faults.missing(f"{path}.name")
    checked = checks.name(name, f"{path}.name")
    if checked in tools.kinds:
        raise faults.invalid(f"{path}.name", f"another tool is named '{checked}'.")
    return checked


def _description(tool: JSON, path: str) -> str | None:
    value = tool.get("description")
    if value is None:
        return None
    return checks.text(value, f"{path}.description", DESCRIPTION_MAX_CHARS)


def _plain(tool: JSON, path: str) -> None:
    """Every tool is there from the start, and the model calls it and waits."""
    for key, reason in (
        ("async", "every call waits for its output."),
        ("defer_loading", "all tools are shown to the model from the start."),
    ):
        value = tool.get(key)
        if value is not None and checks.boolean().run(value, f"{path}.{key}"):
            raise faults.unsupported_value(f"{path}.{key}", value, reason)
    callers = tool.get("allowed_callers")
    if callers is not None and callers != ["direct"]:
        raise faults.unsupported_value(
            f"{path}.allowed_callers", callers, "only the model calls tools."
        )


_READERS: Final[Mapping[str, Callable[[Toolset, JSON, str], None]]] = {
    "function": _function,
    "custom": _custom,
    "mcp": _mcp,
    "namespace": _namespace,
}
_COMMON_KEYS: Final = frozenset({"type", "allowed_callers", "defer_loading"})
_FUNCTION_KEYS: Final = _COMMON_KEYS | {
    "name", "description", "parameters", "strict", "output_schema", "async",
}  # fmt: skip
_CUSTOM_KEYS: Final = _COMMON_KEYS | {"name", "description", "format", "async"}
_MCP_KEYS: Final = _COMMON_KEYS | {
    "server_label", "server_url", "connector_id", "tunnel_id", "authorization",
    "server_description", "headers", "allowed_tools", "require_approval",
}  # fmt: skip
