"""What one turn offers the model of the site's tool servers, and what is left of their bounds."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from serve.core.errors import InvalidRequest, RequestError
from serve.respond.asked import Asked
from serve.served import Served
from serve.toolservers.records import Terms, Tool

JSON = dict[str, Any]

NAME_MAX_CHARS: Final = 64
"""Of a function's name, for the engine and for models."""
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]")


def engine_name(label: str, tool: str) -> str:
    """What the model calls a server's tool: the same in every turn, whatever else is offered."""
    plain = f"{label}__{tool}"
    name = _UNFIT.sub("_", plain)
    if name == plain and len(name) <= NAME_MAX_CHARS:
        return name
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return f"{name[: NAME_MAX_CHARS - 9]}_{digest}"


@dataclass(frozen=True, slots=True)
class Offered:
    """One tool that the model may call; `approval`: the client has to agree to each call."""

    label: str
    tool: Tool
    approval: bool

    @property
    def function(self) -> JSON:
        """As the engine takes it."""
        told = {} if self.tool.description is None else {"description": self.tool.description}
        name = engine_name(self.label, self.tool.name)
        function = {"name": name, **told, "parameters": self.tool.schema}
        return {"type": "function", "function": function}


@dataclass(slots=True)
class Offer:
    """The servers' tools of one turn, by what the model calls them."""

    asked: Asked
    tools: Mapping[str, Offered] = field(default_factory=dict)
    calls_max: Mapping[str, int] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)
    closed: bool = False
    """A call has been refused for its bounds: the model is to come to its end without calls."""

    def named(self, label: str, tool: str) -> Offered | None:
        """The tool of this name, if it is offered."""
        return self.tools.get(engine_name(label, tool))

    def used_up(self, label: str) -> str | None:
        """Which bound leaves no more calls of this server, in words."""
        most = self.asked.max_tool_calls
        if most is not None and self.made.total() >= most:
            return f"the {most} calls that `max_tool_calls` allows have been made"
        if self.made[label] >= self.calls_max[label]:
            return f"this response has made the {self.calls_max[label]} calls of '{label}' it may"
        return None

    def body(self, *, first: bool) -> JSON:
        """Of the engine's request, what says which tools there are.

        `first` is before anything has been called: a call that is asked for is asked for once.
        Raises RequestError where nothing is left of what was asked for.
        """
        if not self.asked.server_tools:
            return {}
        choice = self.asked.choice
        if not first and choice != "none":
            choice = "auto"
        if self.closed:
            choice = "none"
        own = self.asked.engine_body.get("tools", ())
        names = [name for name, one in self.tools.items() if self.used_up(one.label) is None]
        if type(choice) is dict and choice["type"] == "mcp":
            names, choice = self._chosen(names, choice)
            own = () if choice == "required" else own
        tools = [*own, *(self.tools[name].function for name in names)]
        if tools:
            return {"tools": tools, "tool_choice": choice}
        if choice not in ("auto", "none"):
            raise RequestError("none of the tools that were asked for is there", code="no_tools")
        return {}

    def _chosen(self, names: Sequence[str], choice: JSON) -> tuple[list[str], str | JSON]:
        label, tool = choice["server_label"], choice.get("name")
        if tool is None:
            return [name for name in names if self.tools[name].label == label], "required"
        name = engine_name(label, tool)
        if name not in names:
            raise RequestError(
                f"the tool server '{label}' offers no tool named '{tool}' now", code="no_tools"
            )
        return list(names), {"type": "function", "function": {"name": name}}


def check_servers(asked: Asked, terms: Mapping[str, Terms], served: Served) -> None:
    """Raise InvalidRequest for a server that is not there, or not for this model."""
    for one in asked.server_tools:
        label = one["server_label"]
        found = terms.get(label)
        if found is None:
            raise InvalidRequest(f"This site has no tool server '{label}'.", param="tools")
        if found.models:
            names = {*served.names, *(name.partition(":")[0] for name in served.names)}
            if not found.models & names:
                raise InvalidRequest(
                    f"The tool server '{label}' is not for the model {served.id}.", param="tools"
                )


def offered_of(asked: JSON, tools: Iterable[Tool], terms: Terms) -> list[Offered]:
    """Which of a server's tools a request lets the model see, and on which terms.

    What the site says of approval cannot be relaxed by a request.
    """
    label = asked["server_label"]
    return [
        Offered(label, tool, terms.approval == "always" or _asks(asked["require_approval"], tool))
        for tool in tools
        if _allows(asked.get("allowed_tools"), tool)
    ]


def _allows(allowed: Any, tool: Tool) -> bool:
    if allowed is None:
        return True
    if isinstance(allowed, list):
        return tool.name in allowed
    return _matches(allowed, tool)


def _asks(approval: Any, tool: Tool) -> bool:
    """Whether a request wants to be asked; a tool that its filters leave out is asked about only
    where they name those that need not be."""
    if type(approval) is str:
        return approval == "always"
    always, never = approval.get("always"), approval.get("never")
    if always is not None and _matches(always, tool):
        return True
    return never is not None and not _matches(never, tool)


def _matches(found: JSON, tool: Tool) -> bool:
    names, read_only = found.get("tool_names"), found.get("read_only")
    if names is not None and tool.name not in names:
        return False
    return read_only is None or read_only == tool.read_only


def list_item(label: str, offered: Iterable[Offered], error: str | None) -> JSON:
    """The item that shows a server's tools, without its id."""
    return {
        "type": "mcp_list_tools",
        "server_label": label,
        "tools": [
            {
                "name": one.tool.name,
                "description": one.tool.description,
                "input_schema": one.tool.schema,
                "annotations": one.tool.annotations,
            }
            for one in offered
        ],
        "error": error,
    }


def is_shown(item: JSON, items: Sequence[JSON]) -> bool:
    """Whether the newest list of this server among the items is the same."""
    for one in reversed(items):
        if one["type"] == "mcp_list_tools" and one["server_label"] == item["server_label"]:
            return bool(one["tools"] == item["tools"] and one.get("error") == item["error"])
    return False
