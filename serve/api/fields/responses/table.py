"""`POST /v1/responses`: the table of its fields."""

from dataclasses import replace
from typing import Final

from serve.api.fields import checks
from serve.api.fields.chatshapes import TEMPLATE_SETTINGS
from serve.api.fields.fate import (
    Check,
    Field,
    Origin,
    Table,
    accepted,
    forwarded,
    honoured,
    refused,
)
from serve.api.fields.messages import ID_MAX_CHARS
from serve.api.fields.metadata import METADATA
from serve.api.fields.responses import shapes
from serve.api.fields.responses.choice import read_choice
from serve.api.fields.responses.items import ITEMS_MAX, read_input_items
from serve.api.fields.responses.options import (
    EFFORTS,
    SUMMARIES,
    read_background_options,
    read_cache_options,
    read_client_metadata,
    read_conversation,
    read_image,
    read_include,
    read_reasoning,
    read_stream_options,
    read_text,
)
from serve.api.fields.responses.parts import TEXT_ONLY
from serve.api.fields.responses.tools import read_tools
from serve.api.fields.shapes import OBJECT
from serve.api.fields.shared import SERVICE_TIER, SHARED, template_settings
from serve.api.fields.tools import TOOLS_MAX

_VLLM: Final = Origin.VLLM
_SHARED: Final = {field.name: field for field in SHARED}

MODEL: Final = _SHARED["model"]
INPUT: Final = honoured(
    "input",
    Check(f"string, or array of up to {ITEMS_MAX:,} items", read_input_items, shapes.INPUT),
    "Items: messages (roles `user`, `assistant`, `system`, `developer`; text parts, "
    "and a user's `input_image` with a `data:` URL, for models whose config says so), "
    "`function_call`, `custom_tool_call` and their outputs, `reasoning`, `item_reference`, "
    "`mcp_call`, `mcp_list_tools`, `mcp_approval_request`, `mcp_approval_response`, `compaction`. "
    "What this API shows may be sent back as it is, or "
    "with less: ids, `status`, `annotations` and `logprobs` may be missing. `compaction` "
    "items are those of `/v1/responses/compact`: a summary, encoded for this server. Reasoning "
    "that another server encrypted is left out; its compactions are refused, as are items of "
    "hosted tools and file and audio parts. May be missing with "
    "`previous_response_id` or `conversation`.",
)
INSTRUCTIONS: Final = honoured(
    "instructions",
    checks.string(checks.INT32_MAX),
    "The first system message of this turn only: the next has its own.",
)
PREVIOUS: Final = honoured(
    "previous_response_id",
    checks.string(ID_MAX_CHARS, minimum_chars=1),
    "Goes on from a stored response; not together with `conversation`.",
)
CONVERSATION: Final = honoured(
    "conversation",
    Check("string, or object: `id`", read_conversation, shapes.CONVERSATION),
    "Its items come before the input; input and output are added to it.",
)
TOOLS: Final = honoured(
    "tools",
    Check(
        f"array of up to {TOOLS_MAX} tools of `type` `function`, `custom`, `namespace` or `mcp`",
        read_tools,
        shapes.TOOLS,
    ),
    "A `function` is strict where it does not say, unless its schema cannot be held. `custom` "
    "tools take text; grammars are refused. Tools of a `namespace` are shown to the model as "
    "`namespace__name`, and their calls have both apart. `mcp` tools are the site's tool servers, "
    "by `server_label`, with `allowed_tools` and `require_approval`; this server makes their "
    "calls. A `server_url`, `connector_id`, `authorization` or `headers` is refused: the site file "
    "has them. Hosted tools are refused: give the model functions.",
)
CHOICE: Final = honoured(
    "tool_choice",
    Check(
        "`none`, `auto`, `required`, a named `function`, `custom` or `mcp` tool, or "
        "`allowed_tools`",
        read_choice,
        shapes.CHOICE,
    ),
    "`allowed_tools` shows the model only those. Once this server has made a call, the model is "
    "free to answer.",
)
PARALLEL: Final = honoured(
    "parallel_tool_calls", checks.boolean(), "`false`: at most one call. The default is `true`."
)
REASONING: Final = honoured(
    "reasoning",
    Check(
        "object: `effort` ("
        + ", ".join(f"`{one}`" for one in EFFORTS)
        + "), `summary` ("
        + ", ".join(f"`{one}`" for one in SUMMARIES)
        + "), `generate_summary`, `context` (`auto`), `mode` (`standard`)",
        read_reasoning,
        shapes.REASONING,
    ),
    "`effort` goes to the model's chat template; models differ in which they know. `summary` "
    "changes nothing: reasoning is shown in full.",
)
TEXT: Final = honoured(
    "text",
    Check(
        "object: `format` (`text`, `json_object`, or `json_schema` with `name`, `schema`, "
        "`description`, `strict`), `verbosity` (`medium`)",
        read_text,
        shapes.TEXT,
    ),
    "The answer is held to its `format` while sampled. Other values of `verbosity` are refused, "
    "because open models do not know them.",
)
TRUNCATION: Final = honoured(
    "truncation",
    checks.one_of("auto", "disabled"),
    "`auto` leaves out the oldest items where the context is too short; the default is an error.",
)
CACHE: Final = (
    accepted("prompt_cache_key", checks.string(1024), "Repeated. Prefixes are shared by content."),
    accepted(
        "prompt_cache_retention",
        checks.one_of("in_memory", "24h"),
        "Repeated. The prefix cache lives in memory and keeps what it can.",
    ),
    accepted(
        "prompt_cache_options",
        Check(
            "object: `mode` (`implicit`, `explicit`), `ttl` (`30m`, `12h`), `prewarm` (`false`)",
            read_cache_options,
            shapes.CACHE_OPTIONS,
        ),
        "As `prompt_cache_retention`; parts' `prompt_cache_breakpoint` likewise.",
    ),
)
IMAGE: Final = accepted(
    "image",
    Check("object: `context_compression` (`auto`, `disabled`)", read_image, shapes.IMAGE),
    TEXT_ONLY,
)


TEMPLATE: Final = forwarded(
    "chat_template_kwargs",
    Check(
        "object of up to 16 names to strings, numbers, booleans or null",
        template_settings,
        TEMPLATE_SETTINGS,
    ),
    "For example `enable_thinking`. A name that the template does not read does nothing.",
    _VLLM,
)


def _moved(name: str, to: str) -> Field:
    return refused(name, f"in the Responses API it is `{to}`.")


def _sampling() -> tuple[Field, ...]:
    """vLLM's rows. What other endpoints have from OpenAI, this one has from vLLM only."""
    own = ("frequency_penalty", "presence_penalty", "seed", "stop", "logit_bias")
    return (
        *(replace(_SHARED[name], origin=_VLLM) for name in own),
        *(field for field in SHARED if field.origin is not Origin.OPENAI),
    )


RESPONSE: Final = Table(
    "/v1/responses",
    ("model",),
    (
        MODEL,
        INPUT,
        INSTRUCTIONS,
        PREVIOUS,
        CONVERSATION,
        TOOLS,
        CHOICE,
        PARALLEL,
        REASONING,
        TEXT,
        TRUNCATION,
        SERVICE_TIER,
        *CACHE,
        IMAGE,
        _SHARED["stream"],
        honoured(
            "stream_options",
            Check(
                "object: `include_obfuscation` (`false`)",
                read_stream_options,
                shapes.STREAM_OPTIONS,
            ),
            "Only with `stream: true`.",
        ),
        honoured(
            "store",
            checks.boolean(),
            "`true`, the default, keeps the response for later turns and for `GET`.",
        ),
        honoured(
            "background",
            checks.boolean(),
            "Answers at once and goes on alone; needs `store`.",
        ),
        accepted(
            "background_options",
            Check(
                "object: `completion_window` (`soonest`), `continuation_id`",
                read_background_options,
                shapes.BACKGROUND_OPTIONS,
            ),
            "There is one way to run in the background.",
        ),
        honoured(
            "include",
            Check("array of names from OpenAI's list", read_include, shapes.INCLUDE),
            "`message.output_text.logprobs` and `reasoning.encrypted_content` do what they say; "
            "the others are of hosted tools and images, which do not occur here.",
        ),
        honoured(
            "max_output_tokens",
            checks.integer(1, checks.INT32_MAX),
            "Bounds the whole answer, reasoning included; the rest of the context when absent.",
        ),
        honoured(
            "max_tool_calls",
            checks.integer(1, checks.INT32_MAX),
            "Bounds the calls that this server makes itself, of `mcp` tools.",
        ),
        _SHARED["temperature"],
        _SHARED["top_p"],
        honoured(
            "top_logprobs",
            checks.integer(0, 20),
            "How many likeliest tokens; only with `message.output_text.logprobs` in `include`.",
        ),
        honoured("metadata", METADATA, "Repeated, and kept with the response."),
        accepted("user", checks.string(1024), "Repeated. Never logged, never sent to the engine."),
        accepted(
            "safety_identifier",
            checks.string(128),
            "Repeated. Never logged, never sent to the engine.",
        ),
        refused("prompt", "no prompt templates are kept here; send `instructions` and `input`."),
        refused("moderation", "no moderation model runs here."),
        refused(
            "context_management",
            "conversations are not compacted on their own; use `/v1/responses/compact`.",
        ),
        refused("access_programs", "models served here have none."),
        _moved("messages", "input"),
        _moved("max_tokens", "max_output_tokens"),
        _moved("max_completion_tokens", "max_output_tokens"),
        _moved("response_format", "text.format"),
        _moved("reasoning_effort", "reasoning.effort"),
        _moved("verbosity", "text.verbosity"),
        refused("n", "a response is one answer; send the request again."),
        *_sampling(),
        forwarded("include_reasoning", checks.boolean(), "`false` leaves reasoning out.", _VLLM),
        TEMPLATE,
        refused("media_io_kwargs", TEXT_ONLY, _VLLM),
        refused("mm_processor_kwargs", TEXT_ONLY, _VLLM),
        refused("enable_response_messages", "it shows the engine's own messages.", _VLLM),
        refused("previous_input_messages", "it puts messages into the prompt unchecked.", _VLLM),
        accepted(
            "client_metadata",
            Check("object", read_client_metadata, OBJECT),
            "What the program says of itself. Not kept, never sent to the engine.",
            Origin.CODEX,
        ),
    ),
)


def _unrepeated(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """The same rows where the answer does not repeat the request."""
    return tuple(replace(field, note=field.note.removeprefix("Repeated. ")) for field in fields)


INPUT_TOKENS: Final = Table(
    "/v1/responses/input_tokens",
    ("model",),
    (
        MODEL,
        INPUT,
        INSTRUCTIONS,
        PREVIOUS,
        replace(CONVERSATION, note="Its items come before the input."),
        TOOLS,
        CHOICE,
        PARALLEL,
        REASONING,
        TEXT,
        TRUNCATION,
        refused("personality", "say it in `instructions`."),
        replace(TEMPLATE, note="As in `/v1/responses`."),
    ),
)

COMPACT: Final = Table(
    "/v1/responses/compact",
    ("model",),
    (MODEL, INPUT, INSTRUCTIONS, PREVIOUS, SERVICE_TIER, *_unrepeated(CACHE), IMAGE),
)
