"""A client's regular expressions: those that cost too much are refused, by what they say."""

import re
import warnings
from typing import Any

from serve.api.fields import faults
from serve.core.patterns import PATTERN_MAX_CHARS, PATTERN_MAX_STATES, cost_of

__all__ = ["PATTERN_MAX_CHARS", "PATTERN_MAX_STATES", "check_pattern"]


def check_pattern(value: Any, param: str, *, matched_here: bool) -> str:
    """The pattern itself. `matched_here`: this process will match it, not only the engine."""
    if type(value) is not str:
        raise faults.wrong_type(param, "a string", value)
    if len(value) > PATTERN_MAX_CHARS:
        raise faults.too_long(param, "string", PATTERN_MAX_CHARS, len(value))
    if "\x00" in value:
        raise faults.invalid(param, "a pattern cannot contain NUL.")
    if matched_here:
        _compile(value, param)
    cost = cost_of(value)
    if cost.states > PATTERN_MAX_STATES:
        raise faults.invalid(
            param,
            f"its counted repetitions come to {cost.states:,} characters written out; at most "
            f"{PATTERN_MAX_STATES:,} are compiled here.",
        )
    if cost.nested and matched_here:
        raise faults.invalid(
            param,
            "a repeated group that itself repeats or branches can take exponential time to match; "
            "say it without nesting, or leave out `strict`.",
        )
    return value


def _compile(pattern: str, param: str) -> None:
    try:
        with warnings.catch_warnings():
            # What Python may read otherwise one day is not the client's affair.
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise faults.invalid(param, f"not a regular expression here: {error}.") from None
