"""Rows that both endpoints' tables have: sampling, streaming, and vLLM's extras.

vLLM's extras are an allow-list. Three reasons keep one off it: it would put fields into the
answer that the hosted API does not have, it would let a client run code, skip the queue or read
another's cache, or its cost is not bounded.
"""

from typing import Any, Final

from serve.api.fields import chatshapes, checks, faults
from serve.api.fields.fate import Check, Field, Origin, accepted, forwarded, honoured, refused
from serve.api.fields.formats import (
    CHOICES_MAX,
    read_response_format,
    read_structured_outputs,
)
from serve.api.fields.shapes import array, either, pairs, text
from serve.settings.site import Limits

STOPS_MAX: Final = 4
STOP_MAX_CHARS: Final = 512
BIASES_MAX: Final = 1024
TOKENS_LISTED_MAX: Final = 1024
BAD_WORDS_MAX: Final = 128
"""vLLM's own default."""
TEMPLATE_SETTINGS_MAX: Final = 16
TEMPLATE_SETTING_MAX_CHARS: Final = 1024
CHOICES_PER_REQUEST_MAX: Final = 128
TINY_TOP_P: Final = 1e-6
"""What `top_p: 0` becomes: vLLM takes no zero, and this keeps one token just the same."""


def _stop(value: Any, param: str) -> Any:
    if type(value) is str:
        return checks.text(value, param, STOP_MAX_CHARS, 1)
    if type(value) is not list:
        raise faults.wrong_type(param, "a string or an array of strings", value)
    checks.array(value, param, STOPS_MAX)
    return [
        checks.text(one, f"{param}[{place}]", STOP_MAX_CHARS, 1) for place, one in enumerate(value)
    ]


_bias: Final = checks.number(-100, 100)


def _logit_bias(value: Any, param: str) -> dict[str, float]:
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    if len(value) > BIASES_MAX:
        raise faults.too_long(param, "object", BIASES_MAX, len(value))
    for token, bias in value.items():
        path = f"{param}.{faults.clipped(token)}"
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise faults.invalid(path, "expected a token id as the key.")
        _bias.run(bias, path)
    return value


_top_p_rule: Final = checks.number(0, 1)
_ONE_STOP: Final = text(STOP_MAX_CHARS, 1)


def _top_p(value: Any, param: str) -> float:
    return float(_top_p_rule.run(value, param)) or TINY_TOP_P


def _stream_options(value: Any, param: str) -> dict[str, bool]:
    checks.keys(value, param, frozenset({"include_usage", "include_obfuscation"}))
    for key, inner in value.items():
        if inner is not None and type(inner) is not bool:
            raise faults.wrong_type(f"{param}.{key}", "a boolean", inner)
    if value.get("include_obfuscation"):
        raise faults.unsupported_value(
            f"{param}.include_obfuscation", "true", "streams carry no padding."
        )
    return {"include_usage": bool(value.get("include_usage"))}


_TEMPLATE_OWN: Final = frozenset(
    {
        "chat_template",
        "tokenize",
        "messages",
        "conversation",
        "tools",
        "documents",
        "padding",
        "add_generation_prompt",
        "continue_final_message",
        "return_dict",
        "return_tensors",
        "return_assistant_tokens_mask",
        "truncation",
        "max_length",
        "tokenizer_kwargs",
    }
)


def template_settings(value: Any, param: str) -> dict[str, Any]:
    """`chat_template_kwargs`: plain values under names that are the template's own."""
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    if len(value) > TEMPLATE_SETTINGS_MAX:
        raise faults.too_long(param, "object", TEMPLATE_SETTINGS_MAX, len(value))
    for name, inner in value.items():
        path = f"{param}.{faults.clipped(name)}"
        if not name.isidentifier() or len(name) > 64 or name in _TEMPLATE_OWN:
            raise faults.invalid(path, "not a setting that a request may give a chat template.")
        if type(inner) is str:
            checks.text(inner, path, TEMPLATE_SETTING_MAX_CHARS)
        elif type(inner) in (dict, list):
            raise faults.wrong_type(path, "a string, a number, a boolean or null", inner)
    return value


_VLLM: Final = Origin.VLLM
_TOKEN_IDS: Final = checks.items(
    checks.integer(0, checks.INT32_MAX), TOKENS_LISTED_MAX, minimum_items=1
)
_RESPONSE_FIELDS: Final = "it adds fields to the answer that the hosted API does not have."
_GUIDED: Final = "removed from vLLM; use `response_format` or `structured_outputs`."

MODEL: Final = honoured(
    "model",
    checks.string(256, minimum_chars=1),
    "A name, alias or pinned snapshot that this site serves; 404 `model_not_found` otherwise.",
)
TIERS: Final = ("auto", "default", "flex", "priority")
SERVICE_TIER: Final = honoured(
    "service_tier",
    checks.only(
        TIERS,
        "`auto`, `default`, `flex` or `priority`",
        "this server knows `auto`, `default`, `flex` and `priority`.",
        checks.one_of(*TIERS, "scale", "fast", "ultrafast"),
    ),
    "`priority` goes before, `flex` after the tenant's other requests; `auto` is `default`. The "
    "answer says which one it was served in: the site may not allow each.",
)
USER: Final = accepted("user", checks.string(1024), "Never logged, never sent to the engine.")

SHARED: Final[tuple[Field, ...]] = (
    MODEL,
    honoured("stream", checks.boolean(), "Server-sent events instead of one object."),
    honoured(
        "stream_options",
        Check(
            "object: `include_usage` (boolean), `include_obfuscation` (`false`)",
            _stream_options,
            chatshapes.STREAM_OPTIONS,
        ),
        "Only with `stream: true`.",
    ),
    forwarded("temperature", checks.number(0, 2), "0 is greedy; 0 < t < 0.01 counts as 0.01."),
    forwarded(
        "top_p",
        Check(_top_p_rule.says, _top_p, _top_p_rule.schema),
        "0 keeps only the likeliest token.",
    ),
    forwarded("frequency_penalty", checks.number(-2, 2)),
    forwarded("presence_penalty", checks.number(-2, 2)),
    forwarded(
        "seed",
        checks.integer(checks.INT64_MIN, checks.INT64_MAX),
        "The same seed, request and `system_fingerprint` sample alike, as far as batching lets.",
    ),
    forwarded(
        "stop",
        Check(
            f"string, or array of up to {STOPS_MAX}; each 1 to {STOP_MAX_CHARS} characters",
            _stop,
            either(_ONE_STOP, array(_ONE_STOP, STOPS_MAX)),
        ),
    ),
    forwarded(
        "logit_bias",
        Check(
            f"object of up to {BIASES_MAX:,}: token id to number, -100 to 100",
            _logit_bias,
            pairs(_bias.schema, BIASES_MAX, {"pattern": "^[0-9]{1,9}$"}),
        ),
    ),
    honoured(
        "n",
        checks.integer(1, CHOICES_PER_REQUEST_MAX),
        "At most the site's `limits.choices`.",
    ),
    USER,
    # vLLM's extras that are honoured
    forwarded("top_k", checks.integer(-1, checks.INT32_MAX), "0 or -1: off.", _VLLM),
    forwarded("min_p", checks.number(0, 1), "", _VLLM),
    forwarded("repetition_penalty", checks.number(0, 10, above_minimum=True), "1: off.", _VLLM),
    forwarded(
        "min_tokens",
        checks.integer(0, checks.INT32_MAX),
        "No end before so many tokens; at most the answer's own bound.",
        _VLLM,
    ),
    forwarded("stop_token_ids", _TOKEN_IDS, "", _VLLM),
    forwarded("allowed_token_ids", _TOKEN_IDS, "Nothing else is sampled.", _VLLM),
    forwarded(
        "bad_words",
        checks.items(checks.string(STOP_MAX_CHARS, minimum_chars=1), BAD_WORDS_MAX),
        "Never sampled.",
        _VLLM,
    ),
    forwarded("ignore_eos", checks.boolean(), "Goes on to the bound; for load tests.", _VLLM),
    forwarded("include_stop_str_in_output", checks.boolean(), "", _VLLM),
    forwarded("skip_special_tokens", checks.boolean(), "", _VLLM),
    forwarded("spaces_between_special_tokens", checks.boolean(), "", _VLLM),
    forwarded("add_special_tokens", checks.boolean(), "", _VLLM),
    forwarded(
        "thinking_token_budget",
        checks.integer(-1, checks.INT32_MAX),
        "Tokens of reasoning at most; -1: no bound. Needs a model with a reasoning parser.",
        _VLLM,
    ),
    forwarded(
        "structured_outputs",
        Check(
            f"object: one of `json` (a schema), `choice` (1 to {CHOICES_MAX} strings), `regex`, "
            "`json_object`; `disable_any_whitespace`, `disable_additional_properties`",
            read_structured_outputs,
            chatshapes.STRUCTURED,
        ),
        "Not together with a JSON `response_format`, nor with `tools`. `grammar` and "
        "`structural_tag` are refused: compiling them is not bounded.",
        _VLLM,
    ),
    # vLLM's extras that are not
    refused("use_beam_search", "its cost is not bounded, and it does not stream.", _VLLM),
    refused("length_penalty", "it acts only in beam search, which is refused.", _VLLM),
    refused("early_stopping", "it acts only in beam search, which is refused.", _VLLM),
    refused("watermarking", "an answer is marked for a site, not by a request.", _VLLM),
    refused(
        "truncate_prompt_tokens",
        "prompts are never cut silently; one that is too long is `context_length_exceeded`.",
        _VLLM,
    ),
    refused("truncation_side", "prompts are never cut silently.", _VLLM),
    refused("prompt_logprobs", _RESPONSE_FIELDS, _VLLM),
    refused("logprob_token_ids", "ask for the likeliest tokens with the API's own fields.", _VLLM),
    refused("return_tokens_as_token_ids", "it changes what `logprobs` mean.", _VLLM),
    refused("return_token_ids", _RESPONSE_FIELDS, _VLLM),
    refused("return_token_offsets", _RESPONSE_FIELDS, _VLLM),
    refused("routed_experts_prompt_start", _RESPONSE_FIELDS, _VLLM),
    refused("mm_payload", _RESPONSE_FIELDS, _VLLM),
    refused("return_mm_kwargs", _RESPONSE_FIELDS, _VLLM),
    refused("priority", "a request's place in the queue is the site's to decide.", _VLLM),
    refused("request_id", "every request gets one: `x-request-id` in the answer.", _VLLM),
    refused("session_id", "where a request runs is the server's to decide.", _VLLM),
    refused("cache_salt", "the server derives it, so that no client reads another's cache.", _VLLM),
    refused("kv_transfer_params", "it moves cache between engines; that is the site's.", _VLLM),
    refused("ec_transfer_params", "it moves cache between engines; that is the site's.", _VLLM),
    refused("vllm_xargs", "arguments of engine plug-ins are the site's to set.", _VLLM),
    refused("repetition_detection", "it ends answers with a reason that no client knows.", _VLLM),
    refused("stream_interval", "how tokens are grouped is the site's to set.", _VLLM),
    refused("logits_processors", "it runs code named by the request.", Origin.FORMER),
    *(
        refused(f"guided_{what}", _GUIDED, Origin.FORMER)
        for what in (
            "json",
            "regex",
            "choice",
            "grammar",
            "decoding_backend",
            "whitespace_pattern",
        )
    ),
)

RESPONSE_FORMAT: Final = Check(
    "object: `type` `text`, `json_object`, or `json_schema` with `json_schema`: `name`, `schema` "
    "(JSON Schema 2020-12, at most 256 KiB and 64 levels of JSON), `description`, `strict`",
    read_response_format,
    chatshapes.RESPONSE_FORMAT,
)


def choices(own: dict[str, Any], limits: Limits) -> int:
    """`n`, within what the site allows."""
    n: int = own.get("n", 1)
    if n > limits.choices:
        raise faults.above("n", "integer", limits.choices, n)
    return n


def include_usage(own: dict[str, Any]) -> bool:
    """What `stream_options` asks for; it has no meaning without a stream."""
    options = own.get("stream_options")
    if options is None:
        return False
    if not own.get("stream"):
        raise faults.invalid("stream_options", "it is only allowed when 'stream' is true.")
    return bool(options["include_usage"])


def check_sampling(engine: dict[str, Any], max_output_tokens: int | None) -> None:
    """Rules between sampling fields; empty lists that ask for nothing are taken out."""
    if not engine.get("stop", True):
        del engine["stop"]
    minimum = engine.get("min_tokens")
    if minimum is not None and max_output_tokens is not None and minimum > max_output_tokens:
        raise faults.above("min_tokens", "integer", max_output_tokens, minimum)
    if "structured_outputs" in engine and (engine.get("response_format") or {}).get("type") in (
        "json_object",
        "json_schema",
    ):
        raise faults.invalid(
            "structured_outputs", "'response_format' already says what form the answer takes."
        )
