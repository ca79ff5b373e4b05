"""What a model has said in one answer, without what only names that answer.

Two answers are the same where this is: ids, times and the cut into frames are left out. It is the
same whether the answer was streamed or not, and whichever endpoint it was for.
"""

from collections.abc import Iterable, Mapping
from typing import Any

JSON = dict[str, Any]


class _Choice:
    __slots__ = ("calls", "finish", "reasoning", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, tuple[list[str], list[str]]] = {}
        self.finish: str | None = None

    def call(self, place: int, function: Mapping[str, Any]) -> None:
        names, arguments = self.calls.setdefault(place, ([], []))
        names.append(function.get("name") or "")
        arguments.append(function.get("arguments") or "")


class Said:
    """Takes an engine's choices, whole or in parts."""

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    @classmethod
    def whole(cls, choices: Iterable[JSON]) -> "Said":
        """Of an answer that was not streamed."""
        said = cls()
        for one in choices:
            said.take(one)
        return said

    def take(self, choice: JSON) -> None:
        """One choice, or what there is more of it."""
        index = choice.get("index", 0)
        known = self._choices.get(index)
        if known is None:
            known = self._choices[index] = _Choice()
        delta = choice.get("delta") or choice.get("message") or choice
        if text := delta.get("content") or delta.get("text"):
            known.text.append(text)
        if thought := delta.get("reasoning"):
            known.reasoning.append(thought)
        for place, one in enumerate(delta.get("tool_calls") or ()):
            known.call(one.get("index", place), one.get("function") or {})
        if (finish := choice.get("finish_reason")) is not None:
            known.finish = finish

    def plain(self) -> list[JSON]:
        """As JSON: the form of which digests are made."""
        return [
            {
                "index": index,
                "content": "".join(one.text),
                "reasoning": "".join(one.reasoning),
                "tool_calls": [
                    {"name": "".join(names), "arguments": "".join(arguments)}
                    for _, (names, arguments) in sorted(one.calls.items())
                ],
                "finish_reason": one.finish,
            }
            for index, one in sorted(self._choices.items())
        ]
