"""What a Responses request asks, once it has been checked and before its history is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One checked request. `tier` is the service tier that it asks for.

    `items` are this turn's input items as the API shows them (`type`, `id` and `status` where
    its schema has them); a string of input is one user message. Items of type `item_reference`
    are still to be looked up. `engine_body` has what the engine is asked besides `model`,
    `messages` and `stream`: sampling, tools in the form of chat completions, `response_format`,
    and `max_output_tokens` as the bound of one call, which a run of several calls makes smaller.
    `echo` are the fields of the response object that repeat the request, with the API's defaults
    for what was not given. `strict_tools` are the parameters' schemas by tool name,
    `custom_tools` the names whose input is free text and travels as `{"input": …}`.
    `namespaces` has the namespace and the name in it of each tool that is in one, by what the
    engine calls it.
    `max_output_tokens` bounds the whole answer, `max_tool_calls` the calls this server makes.
    `server_tools` are the tools of type `mcp` as the response repeats them: servers that the
    site names, by their label. `engine_body` has nothing of them, and it has a `tool_choice`
    only beside tools of its own; `choice` is the one that was asked for, as the engine takes it,
    or a `type` `mcp` with a `server_label` and perhaps a `name`.
    """

    model: str
    items: tuple[JSON, ...]
    engine_body: JSON
    echo: JSON
    instructions: str | None = None
    stream: bool = False
    store: bool = True
    tier: str | None = None
    background: bool = False
    previous_response_id: str | None = None
    conversation: str | None = None
    include: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    truncate: bool = False
    strict_tools: Mapping[str, JSON] = field(default_factory=dict)
    custom_tools: frozenset[str] = frozenset()
    namespaces: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    server_tools: tuple[JSON, ...] = ()
    choice: str | JSON = "auto"
