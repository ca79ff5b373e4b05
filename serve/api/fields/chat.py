"""`POST /v1/chat/completions`: the table of its fields, and the rules between them."""

from dataclasses import dataclass
from typing import Any, Final, cast

from serve.api.fields import chatshapes as shapes
from serve.api.fields import checks, faults
from serve.api.fields.checked import Checked
from serve.api.fields.fate import Check, Origin, Table, accepted, forwarded, honoured, refused
from serve.api.fields.messages import JSON, MESSAGES_MAX, Conversation, read_messages
from serve.api.fields.metadata import METADATA
from serve.api.fields.shared import (
    RESPONSE_FORMAT,
    SERVICE_TIER,
    SHARED,
    check_sampling,
    choices,
    include_usage,
    template_settings,
)
from serve.api.fields.tools import TOOLS_MAX, Toolbox, choose, read_choice, read_tools
from serve.settings.site import Limits

TEXT_ONLY: Final = "models served here take and give text only."


def _modalities(value: Any, param: str) -> None:
    for place, one in enumerate(checks.array(value, param, 8, 1)):
        if one != "text":
            raise faults.unsupported_value(f"{param}[{place}]", one, TEXT_ONLY)


def _prediction(value: Any, param: str) -> None:
    checks.keys(value, param, frozenset({"type", "content"}))
    if value.get("type") != "content":
        raise faults.not_one_of(f"{param}.type", value.get("type"), ("content",))
    content = value.get("content")
    if type(content) is not str and type(content) is not list:
        raise faults.wrong_type(f"{param}.content", "a string or an array of parts", content)


def _cache_options(value: Any, param: str) -> None:
    checks.keys(value, param, frozenset({"mode", "ttl"}))
    for key, inner in value.items():
        if inner is not None:
            checks.text(inner, f"{param}.{key}", 64)


_TOKENS: Final = checks.integer(1, checks.INT32_MAX)
_VLLM: Final = Origin.VLLM

CHAT: Final = Table(
    "/v1/chat/completions",
    ("model", "messages"),
    (
        honoured(
            "messages",
            Check(f"array of 1 to {MESSAGES_MAX:,} messages", read_messages, shapes.MESSAGES),
            "Roles `developer`, `system`, `user`, `assistant`, `tool`; contents are strings or "
            "text parts, and in a user's message also images (`image_url`) as `data:` URLs, for "
            "models whose config says so. Replayed answers may carry `annotations`, `refusal`, "
            "`reasoning` or `reasoning_content`. Audio and file parts are refused by "
            "their path, and so are the deprecated `function` role and `function_call`.",
        ),
        honoured(
            "max_completion_tokens",
            _TOKENS,
            "Bounds each choice, reasoning included; the rest of the context when absent.",
        ),
        honoured(
            "max_tokens",
            _TOKENS,
            "The older name of `max_completion_tokens`; where both are given they must agree.",
        ),
        honoured("logprobs", checks.boolean(), "Log probabilities of the answer's tokens."),
        honoured("top_logprobs", checks.integer(0, 20), "Above 0 only with `logprobs: true`."),
        forwarded("response_format", RESPONSE_FORMAT, "The answer is held to it while sampled."),
        honoured(
            "tools",
            Check(f"array of 1 to {TOOLS_MAX} tools of `type: function`", read_tools, shapes.TOOLS),
            "`strict: true` holds the arguments to `parameters`. Custom tools are refused.",
        ),
        honoured(
            "tool_choice",
            Check(
                "`none`, `auto`, `required`, a named function, or `allowed_tools`",
                read_choice,
                shapes.CHOICE,
            ),
            "`allowed_tools` shows the model only those; any but `none` needs `tools`.",
        ),
        forwarded("parallel_tool_calls", checks.boolean(), "`false`: at most one call."),
        forwarded(
            "reasoning_effort",
            checks.one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
            "Given to the model's chat template; models differ in which they know.",
        ),
        honoured(
            "metadata",
            METADATA,
            "Echoed in the answer, and kept with it where it is stored.",
        ),
        SERVICE_TIER,
        honoured(
            "store",
            checks.boolean(),
            "The answer is kept once it is whole, with its messages: `GET /v1/chat/completions`. "
            "Not kept without it.",
        ),
        accepted(
            "modalities",
            Check('array of `"text"`', _modalities, shapes.MODALITIES),
            "Audio output is refused.",
        ),
        accepted(
            "verbosity",
            checks.only(
                ("medium",),
                "`medium`",
                "ask for length in the prompt.",
                checks.one_of("low", "medium", "high"),
            ),
            "The default; other values are refused, because open models do not know them.",
        ),
        accepted(
            "prediction",
            Check("object: `type` `content`, `content`", _prediction, shapes.PREDICTION),
            "A hint for speed; usage reports no accepted and no rejected tokens.",
        ),
        accepted(
            "safety_identifier", checks.string(128), "Never logged, never sent to the engine."
        ),
        accepted("prompt_cache_key", checks.string(1024), "Prefixes are shared by content."),
        accepted(
            "prompt_cache_retention",
            checks.one_of("in_memory", "24h"),
            "The prefix cache lives in memory and keeps what it can.",
        ),
        accepted(
            "prompt_cache_options",
            Check("object: `mode`, `ttl`", _cache_options, shapes.CACHE_OPTIONS),
            "As `prompt_cache_retention`; parts' `prompt_cache_breakpoint` likewise.",
        ),
        refused("audio", TEXT_ONLY),
        refused("web_search_options", "this server reaches no other; nothing is searched."),
        refused("moderation", "no moderation model runs here."),
        refused("functions", "deprecated; use `tools`."),
        refused("function_call", "deprecated; use `tool_choice`."),
        *SHARED,
        forwarded("include_reasoning", checks.boolean(), "`false` leaves reasoning out.", _VLLM),
        forwarded(
            "chat_template_kwargs",
            Check(
                "object of up to 16 names to strings, numbers, booleans or null",
                template_settings,
                shapes.TEMPLATE_SETTINGS,
            ),
            "For example `enable_thinking`. A name that the template does not read does nothing.",
            _VLLM,
        ),
        forwarded(
            "add_generation_prompt",
            checks.boolean(),
            "Not `true` together with `continue_final_message`.",
            _VLLM,
        ),
        forwarded(
            "continue_final_message",
            checks.boolean(),
            "Goes on with the last message, which must be the assistant's.",
            _VLLM,
        ),
        refused("echo", "an answer does not repeat its prompt.", _VLLM),
        refused("chat_template", "a template is code; the site's model file names it.", _VLLM),
        refused("documents", "few templates read them; put them into a message.", _VLLM),
        refused("media_io_kwargs", TEXT_ONLY, _VLLM),
        refused("mm_processor_kwargs", TEXT_ONLY, _VLLM),
        refused(
            "return_prompt_text",
            "it adds fields to the answer that the hosted API does not have.",
            _VLLM,
        ),
        refused("best_of", "it is not a field of chat completions; use `n`.", _VLLM),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedChat(Checked):
    """`messages` are as they came, to be shown again where the answer is stored."""

    messages: list[JSON]


def check_chat(body: object, limits: Limits) -> AskedChat:
    """Check a request of `/v1/chat/completions`, as orjson parsed it; raises InvalidRequest."""
    engine, own = CHAT.read(body)
    conversation: Conversation = own["messages"]
    engine["messages"] = conversation.messages
    n = choices(own, limits)
    if n > 1:
        engine["n"] = n
    bound = _bound(own)
    if bound is not None:
        engine["max_completion_tokens"] = bound
    _logprobs(engine, own)
    box, choice = choose(own.get("tools"), own.get("tool_choice"))
    _tools(engine, box, choice)
    check_sampling(engine, bound)
    if "continue_final_message" in engine:
        check_continued(engine, conversation)
    return AskedChat(
        model=own["model"],
        stream=own.get("stream", False),
        include_usage=include_usage(own),
        n=n,
        engine_body=engine,
        max_output_tokens=bound,
        prompts=(conversation.texts,),
        prompt_bytes=conversation.size_bytes,
        logprobs=own.get("logprobs", False),
        tool_names=box.names,
        tool_choice=choice if choice is None or type(choice) is str else "named",
        forced_tool=type(choice) is dict,
        strict_tools=box.strict,
        echo=_echo(own),
        store=own.get("store", False),
        images=conversation.images,
        tier=own.get("service_tier"),
        messages=cast(JSON, body)["messages"],
    )


def _echo(own: dict[str, Any]) -> dict[str, Any]:
    """The metadata; what is stored has some, empty perhaps."""
    if "metadata" in own or own.get("store"):
        return {"metadata": own.get("metadata", {})}
    return {}


def _bound(own: dict[str, Any]) -> int | None:
    """The answer's bound in tokens, under either of its names."""
    new: int | None = own.get("max_completion_tokens")
    old: int | None = own.get("max_tokens")
    if new is not None and old is not None and new != old:
        raise faults.invalid(
            "max_tokens", f"it is {old}, and 'max_completion_tokens' is {new}; send one of them."
        )
    return old if new is None else new


def _logprobs(engine: dict[str, Any], own: dict[str, Any]) -> None:
    top = own.get("top_logprobs", 0)
    if own.get("logprobs"):
        engine["logprobs"] = True
        engine["top_logprobs"] = top
    elif top:
        raise faults.invalid("top_logprobs", "it is only allowed when 'logprobs' is true.")


def _tools(engine: dict[str, Any], box: Toolbox, choice: str | dict[str, Any] | None) -> None:
    if not box.tools:
        # Says nothing without tools, and vLLM would refuse it.
        engine.pop("parallel_tool_calls", None)
        return
    engine["tools"] = box.tools
    engine["tool_choice"] = choice
    if "structured_outputs" in engine and choice != "none":
        raise faults.invalid("structured_outputs", "it cannot be combined with 'tools'.")


def check_continued(engine: dict[str, Any], conversation: Conversation) -> None:
    """Whether the last message can be gone on with, where `continue_final_message` asks for it."""
    if not engine["continue_final_message"]:
        return
    if engine.get("add_generation_prompt"):
        raise faults.invalid(
            "continue_final_message", "it cannot be combined with 'add_generation_prompt'."
        )
    if conversation.messages[-1]["role"] != "assistant":
        raise faults.invalid("continue_final_message", "the last message must be the assistant's.")
    engine["add_generation_prompt"] = False
