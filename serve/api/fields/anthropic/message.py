"""`POST /v1/messages` and `/v1/messages/count_tokens`: their fields, and the rules between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.anthropic import shapes
from serve.api.fields.anthropic.options import (
    BUDGET_MIN_TOKENS,
    EDITS_MAX,
    EFFORTS,
    USER_ID_MAX_CHARS,
    Output,
    Thinking,
    check_diagnostics,
    check_metadata,
    read_context_management,
    read_output_config,
    read_output_format,
    read_thinking,
)
from serve.api.fields.anthropic.tools import TOOLS_MAX, Choice, choose, read_choice, read_tools
from serve.api.fields.anthropic.turns import check_cache_control, read_system, read_turns
from serve.api.fields.checked import Checked
from serve.api.fields.fate import Check, Field, Origin, Table, accepted, forwarded, honoured
from serve.api.fields.fate import refused as refused_field
from serve.api.fields.messages import JSON, MESSAGES_MAX, Conversation
from serve.api.fields.shared import SHARED, STOP_MAX_CHARS
from serve.api.fields.tools import Toolbox
from serve.settings.site import Limits
from serve.stream.message import Manner

STOPS_MAX: Final = 64
THINKING_SWITCHES: Final = ("enable_thinking", "thinking")
"""What chat templates call it; a template that knows neither is given neither."""

_ANTHROPIC: Final = Origin.ANTHROPIC
_TOP_P: Final = next(field.check for field in SHARED if field.name == "top_p")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedMessage(Checked):
    """`manner` is what of the request shapes the answer."""

    manner: Manner


def refused(name: str, reason: str) -> Field:
    """A field of Anthropic's that would change the answer's meaning."""
    return refused_field(name, reason, _ANTHROPIC)


MESSAGES: Final = Table(
    "/v1/messages",
    ("model", "messages", "max_tokens"),
    (
        honoured(
            "model",
            checks.string(256, minimum_chars=1),
            "A name, alias or pinned snapshot that this site serves; 404 otherwise. A site gives "
            "a model a `claude-…` name with an alias, if it wants one.",
            _ANTHROPIC,
        ),
        honoured(
            "messages",
            Check(f"array of 1 to {MESSAGES_MAX:,} messages", read_turns, shapes.MESSAGES),
            "Roles `user`, `assistant`, `system`; blocks `text`, `tool_use`, `tool_result`, "
            "`thinking`, `redacted_thinking`. A last message of the assistant's is gone on with. "
            "`image` in a user's turn, in base64, for models whose config says so. Documents, "
            "images by address and blocks of server tools are refused by their path.",
            _ANTHROPIC,
        ),
        honoured(
            "system",
            Check("string, or array of text blocks", read_system, shapes.SYSTEM),
            "Claude Code's `x-anthropic-billing-header` line is left out: it differs in every "
            "request and would keep prefixes out of the cache.",
            _ANTHROPIC,
        ),
        honoured(
            "max_tokens",
            checks.integer(1, checks.INT32_MAX),
            "An upper bound: where prompt and bound exceed the context, the answer has what is "
            "left of it.",
            _ANTHROPIC,
        ),
        honoured(
            "stop_sequences",
            checks.items(checks.string(STOP_MAX_CHARS, minimum_chars=1), STOPS_MAX),
            "The one that was met is in `stop_sequence`.",
            _ANTHROPIC,
        ),
        honoured("stream", checks.boolean(), "Server-sent events.", _ANTHROPIC),
        forwarded("temperature", checks.number(0, 1), "", _ANTHROPIC),
        forwarded("top_p", _TOP_P, "0 keeps only the likeliest token.", _ANTHROPIC),
        forwarded("top_k", checks.integer(0, checks.INT32_MAX), "0: off.", _ANTHROPIC),
        honoured(
            "tools",
            Check(
                f"array of up to {TOOLS_MAX} tools with an `input_schema`", read_tools, shapes.TOOLS
            ),
            "`strict: true` holds the input to the schema. Server tools (`web_search_…`, "
            "`code_execution_…`), toolsets, `defer_loading` and `input_examples` are refused.",
            _ANTHROPIC,
        ),
        honoured(
            "tool_choice",
            Check(
                "object: `type` `auto`, `any`, `none`, or `tool` with `name`",
                read_choice,
                shapes.CHOICE,
            ),
            "`disable_parallel_tool_use: true`: at most one call.",
            _ANTHROPIC,
        ),
        honoured(
            "thinking",
            Check(
                "object: `type` `disabled`, `adaptive`, or `enabled` with `budget_tokens` from "
                f"{BUDGET_MIN_TOKENS:,}; `display`",
                read_thinking,
                shapes.thinking(BUDGET_MIN_TOKENS),
            ),
            "Asked of the model's chat template; the budget holds where the model has a "
            "reasoning parser. Absent or `adaptive`: as the model does by itself.",
            _ANTHROPIC,
        ),
        honoured(
            "output_config",
            Check(
                "object: `effort`; `format`: `type` `json_schema`, `schema`",
                read_output_config,
                shapes.output_config(*EFFORTS),
            ),
            "`effort` is given to the model's chat template. `task_budget` is refused.",
            _ANTHROPIC,
        ),
        honoured(
            "output_format",
            Check(
                "object: `type` `json_schema`, `schema`", read_output_format, shapes.OUTPUT_FORMAT
            ),
            "The older place of `output_config.format`.",
            _ANTHROPIC,
        ),
        honoured(
            "context_management",
            Check(
                "object: `edits` of `type` `clear_thinking_20251015`",
                read_context_management,
                shapes.edits("clear_thinking_20251015", EDITS_MAX),
            ),
            "Chat templates decide what they show of older thinking, so that no edit is applied, "
            "and the answer says so. Other edits are refused.",
            _ANTHROPIC,
        ),
        accepted(
            "cache_control",
            Check("object: `type` `ephemeral`", check_cache_control, shapes.CACHE_CONTROL),
            "Prefixes are shared by content, marked or not; blocks' and tools' marks likewise.",
            _ANTHROPIC,
        ),
        accepted(
            "metadata",
            Check(
                f"object: `user_id`, up to {USER_ID_MAX_CHARS:,} characters",
                check_metadata,
                shapes.user(USER_ID_MAX_CHARS),
            ),
            "Never logged, never sent to the engine.",
            _ANTHROPIC,
        ),
        accepted(
            "service_tier",
            checks.one_of("auto", "standard_only"),
            "There is one tier; the answer says `standard`.",
            _ANTHROPIC,
        ),
        accepted(
            "speed",
            checks.only(
                ("standard",),
                "`standard`",
                "there is one speed.",
                checks.one_of("standard", "fast"),
            ),
            "The default.",
            _ANTHROPIC,
        ),
        accepted(
            "diagnostics",
            Check("object: `previous_message_id`", check_diagnostics, shapes.DIAGNOSTICS),
            "The answer's `diagnostics` is null.",
            _ANTHROPIC,
        ),
        refused("container", "there are no containers here."),
        refused("mcp_servers", "this server calls no address that a request names."),
        refused("inference_geo", "a request runs where this site is."),
        refused("compaction", "conversations are not compacted here."),
        refused("fallbacks", "another model is never put in a model's place."),
        refused("fallback_credit_token", "nothing is billed here."),
        refused("billing_policy", "nothing is billed here."),
        refused("thread", "nothing of a conversation is kept here; send all of it."),
    ),
)

_COUNTED: Final = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config",
     "output_format", "context_management", "cache_control", "speed", "mcp_servers", "compaction",
     "billing_policy"}
)  # fmt: skip

COUNT_TOKENS: Final = Table(
    "/v1/messages/count_tokens",
    ("model", "messages"),
    (field for name, field in MESSAGES.fields.items() if name in _COUNTED),
)


def check_message(body: object, limits: Limits) -> AskedMessage:
    """Check a request of `/v1/messages`, as orjson parsed it; raises InvalidRequest."""
    del limits  # nothing that they bound is in this API
    engine, own = MESSAGES.read(body)
    asked = _asked(engine, own)
    engine["max_completion_tokens"] = own["max_tokens"]
    if stops := own.get("stop_sequences"):
        engine["stop"] = stops
    return asked


def check_count(body: object, limits: Limits) -> AskedMessage:
    """Check a request of `/v1/messages/count_tokens` likewise."""
    del limits
    return _asked(*COUNT_TOKENS.read(body))


def _asked(engine: JSON, own: JSON) -> AskedMessage:
    conversation: Conversation = own["messages"]
    _prefill(engine, conversation)
    messages, texts = conversation.messages, conversation.texts
    if system := own.get("system"):
        messages, texts = _led(messages, system), [system, *texts]
    engine["messages"] = messages
    box: Toolbox = own.get("tools", Toolbox())
    choice: Choice = own.get("tool_choice", Choice("auto", parallel=True))
    choose(box, choice)
    if box.tools:
        engine |= {"tools": box.tools, "tool_choice": choice.engine}
        if not choice.parallel:
            engine["parallel_tool_calls"] = False
    thinking: Thinking = own.get("thinking", Thinking(None))
    _think(engine, thinking)
    _form(engine, own)
    return AskedMessage(
        model=own["model"],
        stream=own.get("stream", False),
        include_usage=False,
        n=1,
        engine_body=engine,
        max_output_tokens=None,
        prompts=(texts,),
        prompt_bytes=conversation.size_bytes + checks.size_bytes(system or "", "system"),
        tool_names=box.names,
        tool_choice=choice.engine if type(choice.engine) is str else "named",
        strict_tools=box.strict,
        images=conversation.images,
        manner=Manner(
            max_tokens=own.get("max_tokens"),
            thinking_shown=thinking.shown,
            edits_asked="context_management" in own,
        ),
    )


def _led(messages: list[JSON], system: str) -> list[JSON]:
    """The messages after the system prompt, one message with a system message that comes first."""
    if messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{system}\n{messages[0]['content']}"}, *messages[1:]]
    return [{"role": "system", "content": system}, *messages]


def _prefill(engine: JSON, conversation: Conversation) -> None:
    """A last message of the assistant's is the beginning of the answer."""
    last = conversation.messages[-1] if conversation.messages else {"role": "none"}
    if last["role"] != "assistant":
        if not any(one["role"] != "system" for one in conversation.messages):
            raise faults.invalid("messages", "at least one message must be the user's.")
        return
    path = "messages"
    if "tool_calls" in last:
        raise faults.invalid(path, "the last `tool_use` blocks have no `tool_result` after them.")
    if not last["content"]:
        raise faults.invalid(path, "the last message, the assistant's, has no text to go on with.")
    if last["content"] != last["content"].rstrip():
        raise faults.invalid(path, "the last assistant message must not end with whitespace.")
    engine |= {"continue_final_message": True, "add_generation_prompt": False}


def _think(engine: JSON, thinking: Thinking) -> None:
    if thinking.wanted is not None:
        engine["chat_template_kwargs"] = dict.fromkeys(THINKING_SWITCHES, thinking.wanted)
    if thinking.wanted is False:
        engine["include_reasoning"] = False
    if thinking.budget_tokens is not None:
        engine["thinking_token_budget"] = thinking.budget_tokens


def _form(engine: JSON, own: Mapping[str, Any]) -> None:
    output: Output = own.get("output_config", Output())
    if output.effort is not None:
        engine["reasoning_effort"] = output.effort
    schema = own.get("output_format")
    if schema is not None and output.schema is not None:
        raise faults.invalid("output_format", "'output_config.format' already says the form.")
    schema = output.schema if schema is None else schema
    if schema is not None:
        named = {"name": "answer", "schema": schema, "strict": True}
        engine["response_format"] = {"type": "json_schema", "json_schema": named}
