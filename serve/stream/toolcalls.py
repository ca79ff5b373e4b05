"""Tool calls: same ids and arguments streamed and unstreamed, strict ones checked."""

from collections.abc import Container, Mapping
from typing import Any

import jsonschema
import orjson

from serve.core.errors import EngineError

JSON = dict[str, Any]


class ToolCallInvalid(EngineError):
    """A strict tool's arguments do not satisfy its schema; the call is never passed on."""

    code = "tool_call_invalid"


def check_arguments(name: str, arguments: str, strict: Mapping[str, JSON]) -> None:
    """Raise ToolCallInvalid unless the arguments of a finished call are what was promised.

    Every call's arguments are a JSON object; a strict tool's satisfy its schema too.
    """
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ToolCallInvalid(
            f"the model called {name!r} with arguments that are not a JSON object; try again"
        )
    schema = strict.get(name)
    if schema is None:
        return
    problem = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(value)), None)
    if problem is not None:
        raise ToolCallInvalid(
            f"the model called {name!r} with arguments that break its schema: "
            f"{problem.message[:200]}"
        )


def shape_calls(calls: list[JSON], finish: str, strict: Mapping[str, JSON]) -> list[JSON]:
    """Whole calls of an unstreamed answer. A truncated answer's last call may be cut short."""
    shaped = []
    for place, call in enumerate(calls):
        function = call["function"]
        cut = finish == "length" and place == len(calls) - 1
        if not cut:
            check_arguments(function["name"], function["arguments"], strict)
        shaped.append(
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": function["name"], "arguments": function["arguments"]},
            }
        )
    return shaped


class CallStream:
    """The tool calls of one streamed choice.

    Deltas pass as they come, except a strict tool's, which wait until the call is whole and
    checked: what has been sent cannot be taken back. `unchecked` are tools whose arguments
    whoever makes the call looks at.
    """

    __slots__ = ("_arguments", "_held", "_names", "_strict", "_unchecked")

    def __init__(self, strict: Mapping[str, JSON], unchecked: Container[str] = frozenset()) -> None:
        self._strict = strict
        self._unchecked = unchecked
        self._names: dict[int, str] = {}
        self._arguments: dict[int, list[str]] = {}
        self._held: dict[int, JSON] = {}

    @property
    def called(self) -> bool:
        return bool(self._names)

    def feed(self, deltas: list[JSON]) -> list[JSON]:
        """Deltas to send now for these deltas of the engine."""
        out: list[JSON] = []
        for delta in deltas:
            index = int(delta["index"])
            function = delta.get("function") or {}
            arguments = function.get("arguments") or ""
            if index in self._names:
                self._arguments[index].append(arguments)
                if index not in self._held and arguments:
                    out.append({"index": index, "function": {"arguments": arguments}})
                continue
            out.extend(self._finish_held())
            name = function["name"]
            self._names[index] = name
            self._arguments[index] = [arguments]
            first = {
                "index": index,
                "id": delta["id"],
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            if name in self._strict:
                self._held[index] = first
            else:
                out.append(first)
        return out

    def finish(self, reason: str) -> list[JSON]:
        """Deltas still held, checked; call once with the choice's finish reason.

        Raises ToolCallInvalid. Truncated answers (`length`) pass unchecked: the reason says it.
        """
        if reason != "length":
            for index, name in self._names.items():
                if index not in self._held and name not in self._unchecked:
                    check_arguments(name, "".join(self._arguments[index]), {})
        return self._finish_held(check=reason != "length")

    def _finish_held(self, *, check: bool = True) -> list[JSON]:
        out = []
        for index, first in self._held.items():
            arguments = "".join(self._arguments[index])
            if check:
                check_arguments(self._names[index], arguments, self._strict)
            first["function"]["arguments"] = arguments
            out.append(first)
        self._held.clear()
        return out
