"""What tool servers offer, what is asked of them, and how it goes wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from serve.core.call import Principal

JSON = dict[str, Any]

UNREACHABLE: Final = -32000
TIMED_OUT: Final = -32001
REFUSED: Final = -32600
BAD_ARGUMENTS: Final = -32602
INTERNAL: Final = -32603
"""Codes of JSON-RPC, which MCP's errors carry; calls of functions that fail here use them too."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of a server. `schema` is that of its arguments, an object."""

    name: str
    description: str | None
    schema: JSON
    annotations: JSON | None = None

    @property
    def read_only(self) -> bool:
        """Whether its server says that it changes nothing."""
        return bool((self.annotations or {}).get("readOnlyHint"))


@dataclass(frozen=True, slots=True)
class Terms:
    """What the site says of a server to those who may use it; no `models` means all."""

    approval: Literal["never", "always"] = "never"
    max_calls: int = 32
    models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that a model has made, and for whom."""

    request_id: str
    principal: Principal
    server: str
    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


class ToolFailed(Exception):
    """A call, or a list of tools, that came to nothing.

    `outcome` is the word under which it is counted: `failed` where the tool itself says so,
    `timeout`, `unreachable`, `refused` (it was not made). `error` is what the API shows of it.
    """

    def __init__(self, outcome: str, message: str, error: JSON) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.error = error


def protocol_error(outcome: str, code: int, message: str) -> ToolFailed:
    """The server could not be asked, or answered with an error of its protocol."""
    error = {"type": "mcp_protocol_error", "code": code, "message": message}
    return ToolFailed(outcome, message, error)


def tool_error(text: str) -> ToolFailed:
    """The tool has run and says that it failed."""
    content = [{"type": "text", "text": text}]
    return ToolFailed("failed", text, {"type": "mcp_tool_execution_error", "content": content})


def http_error(status: int, text: str) -> ToolFailed:
    """The address answered with this status."""
    return ToolFailed("failed", text, {"type": "http_error", "code": status, "message": text})


class Server(Protocol):
    """One tool server. The bounds on time and on calls at once are its caller's to keep."""

    async def tools(self) -> tuple[Tool, ...]:
        """What it offers now. Raises ToolFailed."""

    async def call(self, tool: str, arguments: JSON) -> str:
        """The result, as text, cut where it is too long. Raises ToolFailed."""

    async def close(self) -> None:
        """End its connections, and its process where it has one."""


class Observer(Protocol):
    """Who counts calls."""

    def tool_called(self, server: str, tool: str, outcome: str, took_s: float) -> None:
        """A call has ended, `outcome` says how."""


def cut(data: bytes, longest: int, whole: int | None = None) -> str:
    """Text of at most so many bytes; what is cut is said. `whole` is how long it was."""
    if len(data) <= longest:
        return data.decode("utf-8", "replace")
    text = data[:longest].decode("utf-8", "ignore")
    size = "more" if whole is None else f"{whole} bytes"
    return f"{text}\n[cut here: the result is {size}, of which this server passes on {longest}]"
