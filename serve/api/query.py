"""Query parameters: every one known, given once, and of a form that is checked.

Functions take the request's ASGI scope (`request.scope` where there is a Request). What is wrong
is an InvalidRequest that names the parameter.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Scope

from serve.api.fields import faults
from serve.core.errors import InvalidRequest
from serve.state.page import Cut

PARAMETERS_MAX: Final = 100
ID_MAX_CHARS: Final = 256

INCLUDABLE: Final = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
"""What `include` may ask for wherever items are shown."""

_ORDERS: Final = {"asc": True, "desc": False}


def read_cut(
    scope: Scope,
    *,
    extra: Iterable[str] = (),
    limit: int = 20,
    limit_max: int = 100,
    ascending: bool = False,
) -> Cut:
    """The page asked for with `after`, `limit` and `order`; `extra` are the endpoint's others.

    `limit` and `ascending` are what counts where the request does not say.
    """
    only(scope, ("after", "limit", "order", *extra))
    size, order = one(scope, "limit"), one(scope, "order")
    if order is not None:
        if order not in _ORDERS:
            raise faults.not_one_of("order", order, _ORDERS)
        ascending = _ORDERS[order]
    if size is not None:
        limit = _size(size, limit_max)
    return Cut(limit=limit, ascending=ascending, after=one(scope, "after"))


def only(scope: Scope, known: Iterable[str] = ()) -> None:
    """Raise for a parameter that is none of these; `name[…]` counts as `name`."""
    names = tuple(known)
    for given, _ in _pairs(scope):
        if given.partition("[")[0] not in names:
            raise faults.unknown(given, names)


def one(scope: Scope, name: str) -> str | None:
    """The value of a parameter that is given at most once."""
    values = [value for given, value in _pairs(scope) if given == name]
    if len(values) > 1:
        raise faults.invalid(name, f"it is given {len(values)} times; give it once.")
    if values and len(values[0]) > ID_MAX_CHARS:
        raise faults.too_long(name, "string", ID_MAX_CHARS, len(values[0]))
    return values[0] if values else None


def many(scope: Scope, name: str, allowed: Iterable[str]) -> frozenset[str]:
    """The values of a parameter that may be repeated, as `name` or as `name[]`."""
    names, options = (name, f"{name}[]"), tuple(allowed)
    found = frozenset(value for given, value in _pairs(scope) if given in names)
    for value in found:
        if value not in options:
            raise faults.not_one_of(name, value, options)
    return found


def mapping(scope: Scope, name: str) -> dict[str, str]:
    """The values given as `name[key]=value`, by key."""
    found: dict[str, str] = {}
    for given, value in _pairs(scope):
        head, bracket, key = given.partition("[")
        if head != name:
            continue
        if not bracket or not key.endswith("]") or len(key) < 2:
            raise faults.invalid(name, f"write it as {name}[key]=value.")
        if key[:-1] in found:
            raise faults.invalid(given, "it is given more than once.")
        found[key[:-1]] = value
    return found


def _size(text: str, maximum: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise faults.invalid("limit", f"expected an integer, but got {faults.shown(text)} instead.")
    size = int(text)
    if size < 1:
        raise faults.below("limit", "integer", 1, size)
    if size > maximum:
        raise faults.above("limit", "integer", maximum, size)
    return size


def _pairs(scope: Scope) -> list[tuple[str, str]]:
    query: bytes = scope["query_string"]
    if not query:
        return []
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=PARAMETERS_MAX
        )
    except ValueError:
        raise InvalidRequest(
            f"The address has more than {PARAMETERS_MAX} query parameters."
        ) from None
    for name, value in pairs:
        # No text that is kept has it, and PostgreSQL cannot even look for it.
        if "\0" in name or "\0" in value:
            raise faults.invalid(name.replace("\0", ""), "it has a NUL character.")
    return pairs
