"""An input file before its first line is run: what is wrong with it, line by line. Pure.

The errors are those of the batch object (OpenAI API reference, batch object): `code`, `message`,
`param` and `line`, which counts from 1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from serve.settings.batches import Batches
from serve.state.batches import Line
from serve.state.records import JSON

ERRORS_MAX: Final = 100
"""Errors that are told; what is wrong with a file is mostly wrong with all of its lines."""
CUSTOM_ID_MAX_CHARS: Final = 512

_SPACE: Final = b" \t\r\n"
_FIELDS: Final = (
    ("custom_id", str, "a string"),
    ("method", str, "a string"),
    ("url", str, "a string"),
    ("body", dict, "an object"),
)


@dataclass(slots=True)
class Checked:
    """The lines to run, and what is wrong; with any error none is run.

    `seen` has the number of the line of each `custom_id`, `models` every model that is asked.
    """

    lines: list[Line] = field(default_factory=list)
    errors: list[JSON] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)


def check(path: Path, endpoint: str, settings: Batches, line_max_bytes: int) -> Checked:
    """Read a whole input file; blocks. Raises OSError."""
    checked = Checked()
    size = path.stat().st_size
    if size > settings.input_mib * 2**20:
        message = (
            f"The input file has {size} bytes, more than {settings.input_mib:g} MiB "
            "(batches.input_mib)."
        )
        checked.errors.append(error("file_too_large", message))
        return checked
    # A line that is longer is read in pieces of this size, of which none is kept.
    with path.open("rb") as file:
        check_lines(_pieces(file, line_max_bytes + 2), endpoint, settings, line_max_bytes, checked)
    return checked


def check_lines(
    lines: Iterable[tuple[int, bytes, bool]],
    endpoint: str,
    settings: Batches,
    line_max_bytes: int,
    checked: Checked,
) -> None:
    """Check lines as they come: the place of each, its bytes, and whether it was too long."""
    for number, (place, data, too_long) in enumerate(lines, 1):
        if too_long:
            message = f"This line is longer than {line_max_bytes} bytes (limits.body_mib)."
            checked.errors.append(error("line_too_large", message, line=number))
        elif not data.strip(_SPACE):
            continue
        elif len(checked.lines) >= settings.lines:
            message = f"The input file has more than {settings.lines} lines (batches.lines)."
            checked.errors.append(error("too_many_requests", message, line=number))
            return
        else:
            _check_line(data, place, endpoint, number, checked)
        if len(checked.errors) >= ERRORS_MAX:
            return
    if not checked.lines and not checked.errors:
        checked.errors.append(error("empty_file", "The input file has no line to run."))


def error(code: str, message: str, *, param: str | None = None, line: int | None = None) -> JSON:
    """One of the batch object's errors."""
    return {"code": code, "message": message, "param": param, "line": line}


def _check_line(data: bytes, place: int, endpoint: str, number: int, checked: Checked) -> None:
    request, fault = _parsed(data, number)
    fault = fault or _fault_of(request, endpoint, number, checked)
    if fault is not None:
        checked.errors.append(fault)
        return
    custom_id = request["custom_id"]
    checked.seen[custom_id] = number
    checked.lines.append(Line(number, custom_id, place, len(data)))
    model = request["body"].get("model")
    checked.models.add(model if type(model) is str else "")


def _parsed(data: bytes, number: int) -> tuple[JSON, JSON | None]:
    """The line's object, or what is wrong with it."""
    try:
        data.decode()
        request = orjson.loads(data)
    except UnicodeDecodeError as bad:
        message = f"This line is not UTF-8 (byte {bad.start})."
    except orjson.JSONDecodeError as bad:
        message = f"This line is not valid JSON: {bad.msg} (column {bad.colno})."
    else:
        if type(request) is dict:
            return request, None
        message = "This line is not a JSON object."
    return {}, error("invalid_json_line", message, line=number)


def _fault_of(request: JSON, endpoint: str, number: int, checked: Checked) -> JSON | None:
    for name, kind, says in _FIELDS:
        if name not in request:
            message = f"This line lacks the field {name!r}."
            return error("missing_required_parameter", message, param=name, line=number)
        if type(request[name]) is not kind:
            message = f"{name!r} is not {says}."
            return error("invalid_type", message, param=name, line=number)
    custom_id: str = request["custom_id"]
    rules = (
        (
            1 <= len(custom_id) <= CUSTOM_ID_MAX_CHARS and "\0" not in custom_id,
            "invalid_custom_id",
            "custom_id",
            f"'custom_id' must have 1 to {CUSTOM_ID_MAX_CHARS} characters, none of them NUL.",
        ),
        (request["method"] == "POST", "invalid_method", "method", "'method' must be \"POST\"."),
        (
            request["url"] == endpoint,
            "mismatched_endpoint",
            "url",
            f"'url' must be the batch's endpoint, {endpoint}.",
        ),
        (
            custom_id not in checked.seen,
            "duplicate_custom_id",
            "custom_id",
            f"This custom_id is used in line {checked.seen.get(custom_id)} already.",
        ),
    )
    for holds, code, param, message in rules:
        if not holds:
            return error(code, message, param=param, line=number)
    return None


def _pieces(file: Any, piece_bytes: int) -> Iterator[tuple[int, bytes, bool]]:
    """Each line's place and bytes; of one longer than a piece nothing but that it is so."""
    place = 0
    while data := file.readline(piece_bytes):
        start, too_long = place, len(data) == piece_bytes and not data.endswith(b"\n")
        place += len(data)
        while too_long and data and not data.endswith(b"\n"):
            data = file.readline(piece_bytes)
            place += len(data)
        yield start, data, too_long
