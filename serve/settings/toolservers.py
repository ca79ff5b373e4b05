"""Tool servers: what this server itself may call for a model, and within which bounds.

A request names one of them; it never brings an address.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, JsonValue

from serve.settings import urls
from serve.settings.terms import IN_WORDS, Frozen, TargetName, is_loopback

FUNCTION_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,48}")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

ServerName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$",
        json_schema_extra={
            IN_WORDS: "a name of up to 32 lower-case letters, digits and, inside, `-`"
        },
    ),
]
ToolUrl = Annotated[
    str,
    Field(
        pattern=r"^https?://[A-Za-z0-9.:_\[\]-]{1,253}(/[!-~]{0,1000})?$",
        json_schema_extra={IN_WORDS: "an address such as `https://tools.example.org/mcp`"},
    ),
]
Variable = Annotated[
    str,
    Field(
        pattern=f"^{VARIABLE.pattern}$",
        json_schema_extra={IN_WORDS: "the name of an environment variable"},
    ),
]
Headers = dict[
    Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")],
    Variable,
]


class Function(Frozen):
    """One function behind an address."""

    name: Annotated[
        str,
        Field(
            pattern=f"^{FUNCTION_NAME.pattern}$",
            json_schema_extra={IN_WORDS: "a name of up to 48 letters, digits, `_` and `-`"},
        ),
    ] = Field(description="What the model calls it.")
    url: ToolUrl = Field(description="Address that is called.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="POST",
        description="`GET` and `DELETE` carry the arguments in the query, the others as a JSON "
        "body.",
    )
    description: str = Field(
        min_length=1, max_length=4096, description="What the model is told that it does."
    )
    parameters: dict[str, JsonValue] = Field(
        default={"type": "object", "properties": {}},
        description="JSON Schema (2020-12) of its arguments, an object. A call that breaks it is "
        "not made.",
    )


class ToolServer(Frozen):
    """One server whose tools models may call."""

    name: ServerName = Field(
        description="What requests call it: the `server_label` of an `mcp` tool."
    )
    kind: Literal["mcp", "http"] = Field(
        description="`mcp`: a server of the Model Context Protocol, at `url` or run as `command`; "
        "`http`: the `functions` that are listed here."
    )
    description: str | None = Field(
        default=None, min_length=1, max_length=1024, description="What it is for, for people."
    )
    url: ToolUrl | None = Field(
        default=None, description="Address of an MCP server over streamable HTTP."
    )
    command: tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...] = Field(
        default=(),
        max_length=64,
        description="Program and arguments of an MCP server that is run here and spoken to over "
        "its standard input and output.",
    )
    folder: Path = Field(
        default=Path(), description="Folder that `command` runs in. Relative to `root`."
    )
    environment: tuple[Variable, ...] = Field(
        default=(),
        max_length=64,
        description="Environment variables that `command` is given besides PATH, HOME and the "
        "like, by their names.",
    )
    functions: tuple[Function, ...] = Field(
        default=(), max_length=64, description="What a server of `kind: http` offers."
    )
    secret_headers: Headers = Field(
        default={},
        max_length=16,
        description="Headers to send: for each the name of the environment variable that has its "
        "whole value (`Authorization: DOCS_TOKEN`).",
    )
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) to trust for it in place of the system's. Relative to "
        "`root`.",
    )
    models: tuple[TargetName, ...] = Field(
        default=(),
        max_length=64,
        description="Models that may use it, by any of their names; all of them where it is empty.",
    )
    tenants: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        default=(),
        max_length=1000,
        description="Tenants that may use it; all of them where it is empty.",
    )
    approval: Literal["never", "always"] = Field(
        default="never",
        description="`always`: each call waits until the client has approved it; requests may ask "
        "for that too.",
    )
    timeout_s: float = Field(
        default=30, gt=0, le=3600, description="Seconds that one call may take."
    )
    max_calls: int = Field(
        default=32, ge=1, le=1000, description="Calls of it that one response may make."
    )
    concurrent_calls: int = Field(
        default=8, ge=1, le=1000, description="Calls of it at once, of all requests together."
    )
    max_result_bytes: int = Field(
        default=65_536,
        ge=256,
        le=16_777_216,
        description="Longest result that the model is given; what is longer is cut, and says so.",
    )

    @property
    def urls(self) -> tuple[str, ...]:
        """Every address that it calls."""
        own = (self.url,) if self.url is not None else ()
        return (*own, *(one.url for one in self.functions))


Place = tuple[str | int, ...]
_ONLY: Final[Mapping[str, tuple[str, ...]]] = {
    "mcp": ("url", "command", "environment"),
    "http": ("functions",),
}


def problems_of(server: ToolServer) -> Iterator[tuple[Place, str]]:
    """What is wrong with one server in itself: where, and in words."""
    for kind, fields in _ONLY.items():
        for field in fields if kind != server.kind else ():
            if getattr(server, field):
                yield (field,), f"{field} is for kind {kind}; remove it, or set kind to {kind}"
    if server.kind == "mcp" and (server.url is None) == (not server.command):
        yield (), "needs either url or command: where the MCP server is, or how it is run"
    if server.kind == "http" and not server.functions:
        yield (), "needs functions: a list with name, url, description and parameters of each"
    if server.command:
        for field in ("secret_headers", "ca_file"):
            if getattr(server, field):
                yield (field,), f"{field} is for servers at an address; a command takes environment"
    yield from _of_addresses(server)
    yield from _of_functions(server)


def _of_addresses(server: ToolServer) -> Iterator[tuple[Place, str]]:
    for url in server.urls:
        parts = urls.split(url)
        if parts is None:
            yield ("url",), f"{url} has no host, or a port that is none"
        elif (
            parts.scheme == "http"
            and server.secret_headers
            and not is_loopback(parts.hostname or "")
        ):
            yield ("secret_headers",), f"{url} is plain http and would show them; use https"


def _of_functions(server: ToolServer) -> Iterator[tuple[Place, str]]:
    seen: set[str] = set()
    for place, function in enumerate(server.functions):
        at: Place = ("functions", place)
        if function.name in seen:
            yield (*at, "name"), f'another function is named "{function.name}"; rename one'
        seen.add(function.name)
        if problem := _schema_problem(function.parameters):
            yield (*at, "parameters"), f'parameters of "{function.name}": {problem}'


def _schema_problem(schema: Mapping[str, Any]) -> str | None:
    import jsonschema  # noqa: PLC0415 - a tenth of a second that most sites have no use for

    if schema.get("type") != "object":
        return "it must describe an object; begin it with type: object"
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"it is no JSON Schema: {error.message[:200]}"
    if _refers_elsewhere(schema):
        return "it refers to a schema elsewhere ($ref); put that under $defs"
    return None


def _refers_elsewhere(value: Any) -> bool:
    if isinstance(value, dict):
        target = value.get("$ref", "#")
        return not str(target).startswith("#") or any(map(_refers_elsewhere, value.values()))
    return isinstance(value, list) and any(map(_refers_elsewhere, value))
