"""Requests of the Responses API: their fields, the rules between them, and what they ask."""

from collections.abc import Mapping
from typing import Any, Final

from serve.api.fields import faults
from serve.api.fields.messages import JSON
from serve.api.fields.responses.choice import Choice, choose
from serve.api.fields.responses.options import LOGPROBS, PLAIN_TEXT
from serve.api.fields.responses.table import COMPACT, INPUT_TOKENS, RESPONSE
from serve.api.fields.responses.toolset import Toolset
from serve.api.fields.shared import check_sampling
from serve.respond.asked import Asked
from serve.settings.site import Limits
from serve.toolservers.records import Terms

Servers = Mapping[str, Terms]
_AUTO: Final = Choice("auto", "auto")
_NONE: Final[Servers] = {}


def check_response(body: object, _limits: Limits, servers: Servers = _NONE) -> Asked:
    """Check a request of `/v1/responses`, as orjson parsed it; raises InvalidRequest.

    `servers` are the tool servers of the site that the client may use.
    """
    engine, own = RESPONSE.read(body)
    _logprobs(engine, own)
    tools, choice = _ask(engine, own, servers)
    bound: int | None = own.get("max_output_tokens")
    if bound is not None:
        engine["max_completion_tokens"] = bound
    check_sampling(engine, bound)
    _check_running(own)
    return _asked(engine, own, tools, choice, _echo(body, engine, own, tools))


def check_input_tokens(body: object, _limits: Limits, servers: Servers = _NONE) -> Asked:
    """Check a request of `/v1/responses/input_tokens`, likewise."""
    engine, own = INPUT_TOKENS.read(body)
    return _asked(engine, own, *_ask(engine, own, servers), {})


def check_compact(body: object, _limits: Limits, servers: Servers = _NONE) -> Asked:
    """Check a request of `/v1/responses/compact`, likewise."""
    engine, own = COMPACT.read(body)
    return _asked(engine, own, *_ask(engine, own, servers), {})


def _ask(engine: JSON, own: JSON, servers: Servers) -> tuple[Toolset, str | JSON]:
    """Put into the engine's body what says how to answer; check where the history comes from.

    Returns the tools that the model is shown, and the choice among them.
    """
    if "previous_response_id" in own and "conversation" in own:
        raise faults.invalid(
            "previous_response_id",
            "it cannot be combined with 'conversation'; send one of them.",
            "mutually_exclusive_parameters",
        )
    if not own.get("input") and not ("previous_response_id" in own or "conversation" in own):
        raise faults.missing("input")
    if (effort := own.get("reasoning", {}).get("effort")) is not None:
        engine["reasoning_effort"] = effort
    text = own.get("text", PLAIN_TEXT)
    if text.response_format is not None:
        engine["response_format"] = text.response_format
    tools: Toolset = own.get("tools") or Toolset()
    _check_servers(tools, servers)
    shown, choice = choose(tools, own.get("tool_choice", _AUTO))
    if shown.engine:
        engine["tools"] = shown.engine
        if type(choice) is not dict or choice["type"] != "mcp":
            engine["tool_choice"] = choice
    if shown.engine or shown.server:
        if "parallel_tool_calls" in own:
            engine["parallel_tool_calls"] = own["parallel_tool_calls"]
        if "structured_outputs" in engine and choice != "none":
            raise faults.invalid("structured_outputs", "it cannot be combined with 'tools'.")
    return shown, choice


def _check_servers(tools: Toolset, servers: Servers) -> None:
    """Only the site says where tools are, and which calls need no approval."""
    for place, tool in enumerate(tools.shown):
        if tool["type"] != "mcp":
            continue
        label = tool["server_label"]
        path = f"tools[{place}]"
        if label not in servers:
            there = f"it has {', '.join(servers)}" if servers else "give the model `function` tools"
            raise faults.invalid(
                f"{path}.server_label",
                f"this site has no tool server labelled {faults.shown(label)} for you; {there}.",
            )
        asked, approval = tool["require_approval"], servers[label].approval
        if asked is None:
            tool["require_approval"] = approval
        elif approval == "always" and asked != "always":
            raise faults.unsupported_value(
                f"{path}.require_approval", asked, "the site wants each call approved: `always`."
            )
        for name in tools.kinds:
            if name.startswith(f"{label}__"):
                raise faults.invalid(
                    "tools", f"'{name}' is what the model calls a tool of '{label}'; rename it."
                )


def _logprobs(engine: JSON, own: JSON) -> None:
    if LOGPROBS in own.get("include", ()):
        engine["logprobs"] = True
        engine["top_logprobs"] = own.get("top_logprobs", 0)


def _check_running(own: JSON) -> None:
    """Rules between the fields that say how the request is run."""
    if own.get("background") and not own.get("store", True):
        raise faults.invalid("background", "it is only allowed when 'store' is true.")
    if "stream_options" in own and not own.get("stream"):
        raise faults.invalid("stream_options", "it is only allowed when 'stream' is true.")


def _asked(engine: JSON, own: JSON, tools: Toolset, choice: str | JSON, echo: JSON) -> Asked:
    return Asked(
        model=own["model"],
        items=own.get("input", ()),
        engine_body=engine,
        echo=echo,
        instructions=own.get("instructions"),
        stream=own.get("stream", False),
        store=own.get("store", True),
        tier=own.get("service_tier"),
        background=own.get("background", False),
        previous_response_id=own.get("previous_response_id"),
        conversation=own.get("conversation"),
        include=own.get("include", frozenset()),
        max_output_tokens=own.get("max_output_tokens"),
        max_tool_calls=own.get("max_tool_calls"),
        truncate=own.get("truncation") == "auto",
        strict_tools=tools.strict,
        custom_tools=tools.custom,
        namespaces=tools.spaces,
        server_tools=tuple(tools.server),
        choice=choice,
    )


def _echo(body: Any, engine: JSON, own: JSON, tools: Toolset) -> JSON:
    """The fields of the response object that repeat the request, with the API's defaults."""
    conversation = own.get("conversation")
    echo: JSON = {
        "background": own.get("background", False),
        "conversation": None if conversation is None else {"id": conversation},
        "instructions": own.get("instructions"),
        "max_output_tokens": own.get("max_output_tokens"),
        "max_tool_calls": own.get("max_tool_calls"),
        "metadata": own.get("metadata", {}),
        "parallel_tool_calls": own.get("parallel_tool_calls", True),
        "previous_response_id": own.get("previous_response_id"),
        "prompt_cache_key": own.get("prompt_cache_key"),
        "prompt_cache_retention": own.get("prompt_cache_retention"),
        "reasoning": own.get("reasoning", {"effort": None, "summary": None}),
        "safety_identifier": own.get("safety_identifier"),
        "service_tier": "default",
        "store": own.get("store", True),
        "temperature": engine.get("temperature", 1.0),
        "text": own.get("text", PLAIN_TEXT).shown,
        "tool_choice": own.get("tool_choice", _AUTO).shown,
        "tools": tools.shown,
        "top_logprobs": own.get("top_logprobs", 0),
        # As it was sent: the engine is given a little above nothing for 0.
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "truncation": own.get("truncation", "disabled"),
    }
    # The schema has these only where they were given.
    echo.update((name, own[name]) for name in ("user", "prompt_cache_options") if name in own)
    return echo
