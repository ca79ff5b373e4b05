"""Refusals in the hosted API's words: what is wrong, where, and the code a program can test.

Every function returns the error for its caller to raise. `param` is the path of the value at
fault, as in `messages[0].content[1].type`.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final

from serve.core.errors import InvalidRequest

SHOWN_MAX_CHARS: Final = 64
"""Longest part of a client's value that an error repeats; prompts never are."""
PATH_MAX_CHARS: Final = 256
"""Longest path of a value; keys that a client chose are part of it."""

_NAMES: Final = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def wrong_type(param: str, expected: str, value: Any) -> InvalidRequest:
    got = _NAMES.get(type(value), type(value).__name__)
    return _refusal(
        "Invalid type for '{}': " + f"expected {expected}, but got {got} instead.",
        param,
        "invalid_type",
    )


def missing(param: str) -> InvalidRequest:
    return _refusal("Missing required parameter: '{}'.", param, "missing_required_parameter")


def unknown(param: str, known: Iterable[str] = ()) -> InvalidRequest:
    """A field inside an object that has no such field."""
    nearest = _nearest(param.rpartition(".")[2], known)
    return _refusal("Unknown parameter: '{}'." + nearest, param, "unknown_parameter")


def unrecognized(name: str, known: Iterable[str]) -> InvalidRequest:
    """A field of the request itself that no table knows."""
    nearest = _nearest(name, known)
    return _refusal(
        "Unrecognized request argument supplied: {}." + nearest, name, "unknown_parameter"
    )


def unsupported(param: str, reason: str) -> InvalidRequest:
    """A field that this server knows and refuses whatever its value."""
    return _refusal("Unsupported parameter: '{}': ", param, "unsupported_parameter", reason)


def unsupported_value(param: str, value: Any, reason: str) -> InvalidRequest:
    return _refusal(
        "Unsupported value: '{}' does not support ",
        param,
        "unsupported_value",
        f"{shown(value)} here: {reason}",
    )


def invalid(param: str, reason: str, code: str = "invalid_value") -> InvalidRequest:
    return _refusal("Invalid '{}': ", param, code, reason)


def not_one_of(param: str, value: Any, allowed: Iterable[str]) -> InvalidRequest:
    listed = ", ".join(f"'{one}'" for one in allowed)
    return _refusal(
        "Invalid value for '{}': ",
        param,
        "invalid_value",
        f"{shown(value)}. Supported values are: {listed}.",
    )


def above(param: str, kind: str, maximum: float, value: Any) -> InvalidRequest:
    """`kind` is `integer` or `decimal`."""
    return invalid(
        param,
        f"{kind} above maximum value. Expected a value <= {maximum}, but got {value} instead.",
        f"{kind}_above_max_value",
    )


def below(param: str, kind: str, minimum: float, value: Any, sign: str = ">=") -> InvalidRequest:
    return invalid(
        param,
        f"{kind} below minimum value. Expected a value {sign} {minimum}, but got {value} instead.",
        f"{kind}_below_min_value",
    )


def too_long(param: str, kind: str, maximum: int, length: int) -> InvalidRequest:
    """`kind` is `string`, `array` or `object`; lengths are characters, items or keys."""
    return invalid(
        param,
        f"{kind} too long. Expected a maximum length of {maximum}, but got length {length}.",
        f"{kind}_above_max_length",
    )


def empty(param: str, kind: str) -> InvalidRequest:
    return invalid(
        param, f"empty {kind}. Expected a minimum length of 1, but got 0.", f"empty_{kind}"
    )


def shown(value: Any) -> str:
    """A client's value as an error repeats it."""
    if isinstance(value, dict | list):
        return _NAMES[type(value)]
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{clipped(value)}'" if isinstance(value, str) else clipped(str(value))


def clipped(text: str, maximum_chars: int = SHOWN_MAX_CHARS) -> str:
    """A client's text on one line, cut to a length."""
    cut = text[:maximum_chars] + "…" if len(text) > maximum_chars else text
    return cut if cut.isprintable() else repr(cut)[1:-1]


def _refusal(words: str, param: str, code: str, detail: str = "") -> InvalidRequest:
    """`words` has one place for the path; `detail` is taken as it is."""
    path = clipped(param, PATH_MAX_CHARS)
    return InvalidRequest(words.replace("{}", path, 1) + detail, param=path, code=code)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name[:SHOWN_MAX_CHARS], known, n=1, cutoff=0.7)
    return f" Did you mean '{near[0]}'?" if near else ""
