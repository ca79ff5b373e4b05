"""`POST /v1/messages` and `/v1/messages/count_tokens`: their fields, and the rules between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.anthropic import shapes
from serve.api.fields.anthropic.tools import TOOLS_MAX, Choice, choose, read_choice, read_tools
from serve.api.fields.anthropic.turns import check_cache_control, read_system, read_turns
from serve.api.fields.checked import Checked
from serve.api.fields.fate import Check, Field, Origin, Table, accepted, forwarded, honoured
from serve.api.fields.fate import refused as refused_field
from serve.api.fields.messages import JSON, MESSAGES_MAX, Conversation
from serve.api.fields.schema import check_schema
from serve.api.fields.shared import SHARED, STOP_MAX_CHARS
from serve.api.fields.tools import Toolbox
from serve.settings.site import Limits
from serve.stream.message import Manner

STOPS_MAX: Final = 64
BUDGET_MIN_TOKENS: Final = 1024
USER_ID_MAX_CHARS: Final = 1024
EDITS_MAX: Final = 16
THINKING_SWITCHES: Final = ("enable_thinking", "thinking")
"""What chat templates call it; a template that knows neither is given neither."""

_ANTHROPIC: Final = Origin.ANTHROPIC
_TOP_P: Final = next(field.check for field in SHARED if field.name == "top_p")
_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class AskedMessage:
    """A checked request, and what of it shapes the answer."""

    checked: Checked
    manner: Manner


@dataclass(frozen=True, slots=True)
class Thinking:
    """`thinking`: `wanted` is None where the model decides."""

    wanted: bool | None
    budget_tokens: int | None = None
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """`output_config`: how hard the model thinks, and the schema its answer is held to."""

    effort: str | None = None
    schema: JSON | None = None


def _thinking(value: Any, param: str) -> Thinking:
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    display = value.get("display")
    if display is not None and display not in ("summarized", "omitted"):
        raise faults.not_one_of(f"{param}.display", display, ("summarized", "omitted"))
    shown = display != "omitted"
    match value.get("type"):
        case "enabled":
            checks.keys(value, param, frozenset({"type", "budget_tokens", "display"}))
            budget = value.get("budget_tokens")
            if budget is None:
                raise faults.missing(f"{param}.budget_tokens")
            _BUDGET.run(budget, f"{param}.budget_tokens")
            return Thinking(True, budget, shown)
        case "disabled":
            checks.keys(value, param, frozenset({"type"}))
            return Thinking(False)
        case "adaptive":
            checks.keys(value, param, frozenset({"type", "display"}))
            return Thinking(None, None, shown)
        case None:
            raise faults.missing(f"{param}.type")
        case "between_tools":
            raise faults.unsupported_value(
                f"{param}.type", "between_tools", "a model thinks where its template lets it."
            )
        case other:
            raise faults.not_one_of(f"{param}.type", other, ("enabled", "disabled", "adaptive"))


_BUDGET: Final = checks.integer(BUDGET_MIN_TOKENS, checks.INT32_MAX)


def _output_config(value: Any, param: str) -> Output:
    checks.keys(value, param, frozenset({"effort", "format", "task_budget"}))
    if value.get("task_budget") is not None:
        raise faults.unsupported(f"{param}.task_budget", "bound the answer with `max_tokens`.")
    effort = value.get("effort")
    if effort is not None:
        checks.one_of(*_EFFORTS).run(effort, f"{param}.effort")
    form = value.get("format")
    return Output(effort, None if form is None else _output_format(form, f"{param}.format"))


def _output_format(value: Any, param: str) -> JSON:
    checks.keys(value, param, frozenset({"type", "schema"}))
    for key in ("type", "schema"):
        if value.get(key) is None:
            raise faults.missing(f"{param}.{key}")
    if value["type"] != "json_schema":
        raise faults.not_one_of(f"{param}.type", value["type"], ("json_schema",))
    return check_schema(value["schema"], f"{param}.schema")


def _metadata(value: Any, param: str) -> None:
    checks.keys(value, param, frozenset({"user_id"}))
    if value.get("user_id") is not None:
        checks.text(value["user_id"], f"{param}.user_id", USER_ID_MAX_CHARS)


def _diagnostics(value: Any, param: str) -> None:
    checks.keys(value, param, frozenset({"previous_message_id"}))


def _context_management(value: Any, param: str) -> bool:
    """Edits that change nothing where the chat template already decides."""
    checks.keys(value, param, frozenset({"edits"}))
    path = f"{param}.edits"
    edits = value.get("edits")
    for place, edit in enumerate(checks.array([] if edits is None else edits, path, EDITS_MAX)):
        if type(edit) is not dict:
            raise faults.wrong_type(f"{path}[{place}]", "an object", edit)
        if edit.get("type") != "clear_thinking_20251015":
            raise faults.unsupported_value(
                f"{path}[{place}].type", edit.get("type"), "conversations are not edited here."
            )
    return True


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
            "Images, documents and blocks of server tools are refused by their path.",
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
                _thinking,
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
                _output_config,
                shapes.output_config(*_EFFORTS),
            ),
            "`effort` is given to the model's chat template. `task_budget` is refused.",
            _ANTHROPIC,
        ),
        honoured(
            "output_format",
            Check("object: `type` `json_schema`, `schema`", _output_format, shapes.OUTPUT_FORMAT),
            "The older place of `output_config.format`.",
            _ANTHROPIC,
        ),
        honoured(
            "context_management",
            Check(
                "object: `edits` of `type` `clear_thinking_20251015`",
                _context_management,
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
                _metadata,
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
            Check("object: `previous_message_id`", _diagnostics, shapes.DIAGNOSTICS),
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
    checked = Checked(
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
    )
    return AskedMessage(
        checked,
        Manner(
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
