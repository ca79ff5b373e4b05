"""Fields of a Responses request that are objects or lists with rules of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.formats import read_named_schema
from serve.api.fields.messages import ID_MAX_CHARS, JSON

INCLUDE_MAX: Final = 16
LOGPROBS: Final = "message.output_text.logprobs"
ENCRYPTED: Final = "reasoning.encrypted_content"
INCLUDABLE: Final = (
    LOGPROBS,
    ENCRYPTED,
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES: Final = ("auto", "concise", "detailed")

_flag: Final = checks.boolean().run
_effort: Final = checks.one_of(*EFFORTS).run
_summary: Final = checks.one_of(*SUMMARIES).run


def read_include(value: Any, param: str) -> frozenset[str]:
    """What else the answer is to hold; more than `LOGPROBS` and `ENCRYPTED` never occurs here."""
    for place, one in enumerate(checks.array(value, param, INCLUDE_MAX)):
        if type(one) is not str or one not in INCLUDABLE:
            raise faults.not_one_of(f"{param}[{place}]", one, INCLUDABLE)
    return frozenset(value)


def read_conversation(value: Any, param: str) -> str:
    """The conversation's id, sent as it is or in an object."""
    if type(value) is str:
        return checks.text(value, param, ID_MAX_CHARS, 1)
    if type(value) is not dict:
        raise faults.wrong_type(param, "a string or an object", value)
    checks.keys(value, param, frozenset({"id"}))
    if value.get("id") is None:
        raise faults.missing(f"{param}.id")
    return checks.text(value["id"], f"{param}.id", ID_MAX_CHARS, 1)


def read_reasoning(value: Any, param: str) -> JSON:
    """`effort` and `summary` as they are repeated; the older name of `summary` is taken."""
    checks.keys(value, param, _REASONING_KEYS)
    kept: JSON = {"effort": None, "summary": None}
    for key, run, name in (
        ("effort", _effort, "effort"),
        ("generate_summary", _summary, "summary"),
        ("summary", _summary, "summary"),
    ):
        if value.get(key) is not None:
            kept[name] = run(value[key], f"{param}.{key}")
    for key, only, reason in (
        ("context", "auto", "the model's chat template says which reasoning it is shown."),
        ("mode", "standard", "models served here have one mode."),
    ):
        given = value.get(key)
        if given is not None and given != only:
            if type(given) is not str:
                raise faults.wrong_type(f"{param}.{key}", "a string", given)
            raise faults.unsupported_value(f"{param}.{key}", given, reason)
    return kept


@dataclass(frozen=True, slots=True)
class Text:
    """`text`: the form of the answer for the engine (None: free), and as it is repeated."""

    response_format: JSON | None
    shown: JSON


PLAIN_TEXT: Final = Text(None, {"format": {"type": "text"}, "verbosity": "medium"})


def read_text(value: Any, param: str) -> Text:
    """`format` and `verbosity`."""
    checks.keys(value, param, frozenset({"format", "verbosity"}))
    verbosity = value.get("verbosity")
    if verbosity is not None:
        path = f"{param}.verbosity"
        if checks.one_of("low", "medium", "high").run(verbosity, path) != "medium":
            raise faults.unsupported_value(path, verbosity, "ask for length in the prompt.")
    if value.get("format") is None:
        return PLAIN_TEXT
    asked, shown = _format(value["format"], f"{param}.format")
    return Text(asked, {"format": shown, "verbosity": "medium"})


def _format(value: Any, path: str) -> tuple[JSON | None, JSON]:
    if type(value) is not dict:
        raise faults.wrong_type(path, "an object", value)
    match value.get("type"):
        case None:
            raise faults.missing(f"{path}.type")
        case "text" | "json_object" as kind:
            checks.keys(value, path, frozenset({"type"}))
            shown = {"type": kind}
            return (None if kind == "text" else shown), shown
        case "json_schema":
            named = read_named_schema({k: v for k, v in value.items() if k != "type"}, path)
            # What is not said is not strict, in the hosted API too.
            shown = {"type": "json_schema", "strict": False, **named}
            return {"type": "json_schema", "json_schema": named}, shown
        case other:
            raise faults.not_one_of(f"{path}.type", other, ("text", "json_object", "json_schema"))


def read_stream_options(value: Any, param: str) -> JSON:
    checks.keys(value, param, frozenset({"include_obfuscation"}))
    padded = value.get("include_obfuscation")
    if padded is not None and _flag(padded, f"{param}.include_obfuscation"):
        raise faults.unsupported_value(
            f"{param}.include_obfuscation", True, "streams carry no padding."
        )
    return {}


def read_background_options(value: Any, param: str) -> JSON:
    checks.keys(value, param, frozenset({"completion_window", "continuation_id"}))
    window = value.get("completion_window")
    if window is not None and window != "soonest":
        path = f"{param}.completion_window"
        checks.one_of("soonest", "2h", "8h").run(window, path)
        raise faults.unsupported_value(path, window, "background responses run as soon as can be.")
    if (name := value.get("continuation_id")) is not None:
        checks.text(name, f"{param}.continuation_id", 1024)
    return {}


def read_cache_options(value: Any, param: str) -> JSON:
    """As they are repeated, with the defaults; what they ask for, the prefix cache does anyway."""
    checks.keys(value, param, _CACHE_KEYS)
    kept: JSON = {"mode": "implicit", "ttl": "30m"}
    for key, allowed in _CACHE_VALUES.items():
        if value.get(key) is not None:
            kept[key] = checks.one_of(*allowed).run(value[key], f"{param}.{key}")
    prewarm = value.get("prewarm")
    if prewarm is not None and _flag(prewarm, f"{param}.prewarm"):
        raise faults.unsupported_value(f"{param}.prewarm", True, "every request is answered.")
    if value.get("comparison_response_id") is not None:
        raise faults.unsupported(
            f"{param}.comparison_response_id", "`usage` says how much of a prompt was cached."
        )
    return kept


def read_image(value: Any, param: str) -> JSON:
    checks.keys(value, param, frozenset({"context_compression"}))
    asked = value.get("context_compression")
    if asked is not None:
        path = f"{param}.context_compression"
        if checks.one_of("auto", "enabled", "disabled").run(asked, path) == "enabled":
            raise faults.unsupported_value(path, asked, "models served here take text only.")
    return {}


_REASONING_KEYS: Final = frozenset({"effort", "summary", "generate_summary", "context", "mode"})
_CACHE_KEYS: Final = frozenset({"mode", "ttl", "prewarm", "comparison_response_id"})
_CACHE_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": ("implicit", "explicit"),
    "ttl": ("30m", "12h"),
}


def read_client_metadata(value: Any, param: str) -> JSON:
    """Any object: it is looked at no further."""
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    return value
