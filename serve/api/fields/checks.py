"""Rules for single values. Each maker returns a Check; bounds are part of what it says.

JSON's types are told apart by `type() is`: a boolean is not a number.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from serve.api.fields import faults
from serve.api.fields.fate import Check

INT32_MAX: Final = 2**31 - 1
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def integer(minimum: int, maximum: int) -> Check:
    def run(value: Any, param: str) -> int:
        if type(value) is not int:
            raise faults.wrong_type(param, "an integer", value)
        if value < minimum:
            raise faults.below(param, "integer", minimum, value)
        if value > maximum:
            raise faults.above(param, "integer", maximum, value)
        return value

    schema = {"type": "integer", "minimum": minimum, "maximum": maximum}
    return Check(f"integer, {_int(minimum)} to {_int(maximum)}", run, schema)


def number(minimum: float, maximum: float, *, above_minimum: bool = False) -> Check:
    """`above_minimum`: the minimum itself is not allowed."""

    def run(value: Any, param: str) -> float:
        if type(value) is not float and type(value) is not int:
            raise faults.wrong_type(param, "a decimal", value)
        # Written so that a NaN fails too.
        if not value >= minimum or (above_minimum and value == minimum):
            raise faults.below(param, "decimal", minimum, value, ">" if above_minimum else ">=")
        if value > maximum:
            raise faults.above(param, "decimal", maximum, value)
        return value

    low = f"above {minimum:g}" if above_minimum else f"{minimum:g}"
    lowest = {"exclusiveMinimum" if above_minimum else "minimum": minimum}
    schema = {"type": "number", **lowest, "maximum": maximum}
    return Check(f"number, {low} to {maximum:g}", run, schema)


def boolean() -> Check:
    def run(value: Any, param: str) -> bool:
        if type(value) is not bool:
            raise faults.wrong_type(param, "a boolean", value)
        return value

    return Check("boolean", run, {"type": "boolean"})


def string(maximum_chars: int, *, minimum_chars: int = 0) -> Check:
    def run(value: Any, param: str) -> str:
        return text(value, param, maximum_chars, minimum_chars)

    schema = {"type": "string", "minLength": minimum_chars, "maxLength": maximum_chars}
    return Check(f"string, {minimum_chars} to {_int(maximum_chars)} characters", run, schema)


def text(value: Any, param: str, maximum_chars: int, minimum_chars: int = 0) -> str:
    """The string itself, its length checked."""
    if type(value) is not str:
        raise faults.wrong_type(param, "a string", value)
    if len(value) < minimum_chars:
        raise faults.empty(param, "string")
    if len(value) > maximum_chars:
        raise faults.too_long(param, "string", maximum_chars, len(value))
    return value


def one_of(*allowed: str) -> Check:
    members = frozenset(allowed)

    def run(value: Any, param: str) -> str:
        if type(value) is not str:
            raise faults.wrong_type(param, "a string", value)
        if value not in members:
            raise faults.not_one_of(param, value, allowed)
        return value

    says = " or ".join(f"`{one}`" for one in allowed)
    return Check(says, run, {"type": "string", "enum": list(allowed)})


def only(values: Iterable[Any], says: str, reason: str, type_check: Check) -> Check:
    """The values that mean what this server does anyway; others of the type are refused."""
    members = tuple(values)

    def run(value: Any, param: str) -> Any:
        if type_check.run(value, param) not in members:
            raise faults.unsupported_value(param, value, reason)
        return value

    return Check(says, run, {"enum": list(members)})


def items(each: Check, maximum_items: int, *, minimum_items: int = 0) -> Check:
    """An array whose items all follow one rule."""

    def run(value: Any, param: str) -> list[Any]:
        array(value, param, maximum_items, minimum_items)
        run_each = each.run
        return [run_each(item, f"{param}[{place}]") for place, item in enumerate(value)]

    schema = {
        "type": "array", "items": each.schema,
        "minItems": minimum_items, "maxItems": maximum_items,
    }  # fmt: skip
    return Check(f"array of {minimum_items} to {_int(maximum_items)}: {each.says}", run, schema)


def array(value: Any, param: str, maximum_items: int, minimum_items: int = 0) -> list[Any]:
    """The array itself, its length checked."""
    if type(value) is not list:
        raise faults.wrong_type(param, "an array", value)
    if len(value) < minimum_items:
        raise faults.empty(param, "array")
    if len(value) > maximum_items:
        raise faults.too_long(param, "array", maximum_items, len(value))
    return value


def keys(value: Any, param: str, known: Mapping[str, Any] | frozenset[str]) -> dict[str, Any]:
    """The object itself; a key that is not known is refused by its path."""
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    for key in value:
        if key not in known:
            raise faults.unknown(f"{param}.{key}", known)
    return value


def name(value: Any, param: str) -> str:
    """The name of a tool or schema: OpenAI's alphabet and length."""
    if type(value) is not str:
        raise faults.wrong_type(param, "a string", value)
    if NAME.fullmatch(value) is None:
        raise faults.invalid(
            param,
            "expected 1 to 64 letters, digits, underscores and dashes "
            f"(^[a-zA-Z0-9_-]+$), but got {faults.shown(value)} instead.",
        )
    return value


def size_bytes(value: str, param: str) -> int:
    """Length in UTF-8; raises InvalidRequest for half a surrogate pair, which has none."""
    if value.isascii():
        return len(value)
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise faults.invalid(param, "the text has half a surrogate pair.") from None


def _int(value: int) -> str:
    named = {INT32_MAX: "2^31-1", INT64_MAX: "2^63-1", INT64_MIN: "-2^63"}
    return named.get(value, f"{value:,}")
