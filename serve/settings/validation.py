"""A tree becomes typed settings, or a list of what is wrong with it, each with file and line."""

import difflib
import json
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from serve.settings.schema import in_words, view
from serve.settings.tree import Node, Place, Problem

FOUND_CHARS_MAX: Final = 60

Settings = TypeVar("Settings", bound=BaseModel)


def validated(
    model: type[Settings],
    node: Node,
    problems: list[Problem],
    within: Place = (),
    file: str | None = None,
) -> Settings | None:
    """`node` as `model`; None where something is wrong, which is added to `problems`.

    `within` is the place of `node` in `file` (its own if not given); values of `node` that stand
    in another file are named without it. Types are strict: text is not read as a number, nor a
    number as a switch.
    """
    try:
        return model.model_validate_json(json.dumps(node.plain()), strict=True)
    except ValidationError as error:
        errors = error.errors()
        for one in errors:
            if one["type"] == "too_short" and any(_is_below(e["loc"], one["loc"]) for e in errors):
                continue  # pydantic counts only the items that are right
            problems.append(_problem(model, node, one, within, file or node.file))
        return None


def unknown_key(key: str, known: Iterable[str], within: Place = ()) -> str:
    """The words for a key that does not exist, with the nearest one that does."""
    known = list(known)
    where = f" in {dotted(within)}" if within else ""
    near = difflib.get_close_matches(key.lower(), known, n=1)
    hint = f'nearest known key: "{near[0]}"' if near else f"known keys: {', '.join(known)}"
    return f"unknown key {json.dumps(key)}{where}; {hint}"


def dotted(place: Place) -> str:
    """`models[0].source.path`."""
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return name.removeprefix(".") or "the file"


def _problem(model: type[BaseModel], node: Node, error: Any, within: Place, file: str) -> Problem:
    place = _place(node, error)
    at = node.nearest(place)
    full = (*within, *place) if at.file == file else place
    if error["type"] == "extra_forbidden":
        known = (view(model).at(place[:-1]) or {}).get("properties", ())
        return Problem(at.file, at.line, unknown_key(str(place[-1]), known, full[:-1]))
    schema = view(model).at(place)
    expected = in_words(schema, view(model)) if schema else error["msg"]
    if error["type"] == "missing":
        return Problem(at.file, at.line, f"{dotted(full)} is missing; expected {expected}")
    if error["type"] == "engine_arg":
        return Problem(at.file, at.line, f"{dotted(full)}: {error['msg']}")
    found = json.dumps(at.plain(), ensure_ascii=False)
    if len(found) > FOUND_CHARS_MAX:
        found = found[:FOUND_CHARS_MAX] + "…"
    return Problem(at.file, at.line, f"{dotted(full)}: found {found}; expected {expected}")


def _is_below(place: Place, above: Place) -> bool:
    return len(place) > len(above) and place[: len(above)] == above


def _place(node: Node, error: Any) -> Place:
    """pydantic's location without what is not in the file: union branches and `[key]`."""
    place: Place = ()
    steps = error["loc"]
    for step in steps:
        at = node.nearest(place)
        inside = step in at.entries() or (isinstance(step, int) and step < len(at.elements()))
        if inside or (error["type"] == "missing" and step == steps[-1]):
            place = (*place, step)
    return place
