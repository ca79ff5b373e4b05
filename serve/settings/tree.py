"""YAML as a tree that remembers where each value stands, so that errors can name file and line.

Only what a settings file needs: mappings with unique text keys, lists, and scalars by the rules
of YAML 1.2 (`on` and `yes` are text, a date is text). Anchors, aliases and tags are refused: they
are the ways in which YAML grows without bound or builds objects. `${NAME}` in a value stands for
an environment variable.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from serve.core.errors import SettingsError

FILE_KIB_MAX: Final = 256
DEPTH_MAX: Final = 16

Scalar = None | bool | int | float | str
Place = tuple[str | int, ...]
"""Keys and list indices from the top of a file down to a value."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"(?=.*[.eE])[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Problem(NamedTuple):
    """One thing wrong with a settings file; `line` from 1, 0 for the whole file."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.text}"


def refuse(problems: list[Problem]) -> None:
    """Raise one SettingsError that names every problem, one a line; nothing if there are none."""
    if problems:
        raise SettingsError("\n".join(str(problem) for problem in sorted(set(problems))))


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place; a mapping's values stand at the line of their key (from 1)."""

    value: "Scalar | dict[str, Node] | list[Node]"
    file: str
    line: int

    def plain(self) -> Any:
        """The same as ordinary dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def entries(self) -> dict[str, "Node"]:
        """The entries of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def elements(self) -> list["Node"]:
        """The items of a list; empty for anything else."""
        return self.value if isinstance(self.value, list) else []

    def nearest(self, place: Place) -> "Node":
        """The node at `place`, or the last one that exists on the way there."""
        node = self
        for step in place:
            if isinstance(node.value, dict) and step in node.value:
                node = node.value[step]
            elif isinstance(step, int) and step < len(node.elements()):
                node = node.elements()[step]
            else:
                break
        return node

    def overridden(self, by: Mapping[str, "Node"]) -> "Node":
        """This mapping with `by` laid over it; mappings join key by key, all else replaces."""
        joined = dict(self.entries())
        for key, over in by.items():
            below = joined.get(key)
            if below is not None and isinstance(below.value, dict) and isinstance(over.value, dict):
                joined[key] = replace(below.overridden(over.value), line=over.line, file=over.file)
            else:
                joined[key] = over
        return replace(self, value=joined)


def read(path: Path, env: Mapping[str, str], problems: list[Problem]) -> Node | None:
    """The tree of one settings file; None where it cannot be read, which `problems` then says."""
    raw = raw_of(path, problems)
    return None if raw is None else decode(raw, str(path), env, problems)


def raw_of(path: Path, problems: list[Problem]) -> bytes | None:
    """The bytes of one settings file; None where it cannot be read, which `problems` then says."""
    file = str(path)
    try:
        with path.open("rb") as opened:
            raw = opened.read(FILE_KIB_MAX * 1024 + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(Problem(file, 0, f"cannot be read: {reason}"))
        return None
    if len(raw) > FILE_KIB_MAX * 1024:
        problems.append(Problem(file, 0, f"larger than {FILE_KIB_MAX} KiB; not a settings file"))
        return None
    return raw


def decode(raw: bytes, file: str, env: Mapping[str, str], problems: list[Problem]) -> Node | None:
    """The tree of a file's bytes; None where they are none, which `problems` then says."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(Problem(file, raw.count(b"\n", 0, error.start) + 1, "not UTF-8 text"))
        return None
    return parse(text, file, env, problems)


def parse(text: str, file: str, env: Mapping[str, str], problems: list[Problem]) -> Node | None:
    """The tree of a YAML text; `file` is only its name for errors."""
    composer = _Composer(text, file, env)
    try:
        node = composer.document()
    except _Unreadable as stop:
        problems += [*composer.problems, stop.problem]
        return None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The scanner lets `chr` and `int` raise on escapes such as "\\UFFFFFFFF".
        problems += [*composer.problems, _of_yaml(error, text, file)]
        return None
    problems += composer.problems
    return None if composer.problems else node


class _Unreadable(Exception):
    """Reading cannot go on after this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _of_yaml(error: Exception, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        problem = getattr(error, "problem", None) or getattr(error, "context", None)
        return Problem(file, mark.line + 1, f"not valid YAML: {problem}")
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem(file, line, "not valid YAML: a control character")
    return Problem(file, 1, f"not valid YAML: {error}")


class _Composer:
    """Builds nodes from YAML events; what is wrong is collected and reading goes on."""

    def __init__(self, text: str, file: str, env: Mapping[str, str]) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self._file = file
        self._env = env
        self.problems: list[Problem] = []

    def document(self) -> Node:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                node = self._node(next(self._events), 0)
                break
        else:
            raise _Unreadable(Problem(self._file, 0, "the file is empty"))
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise self._unreadable(event, "a second YAML document; a settings file has one")
        return node

    def _wrong(self, event: Any, text: str) -> None:
        self.problems.append(Problem(self._file, event.start_mark.line + 1, text))

    def _unreadable(self, event: Any, text: str) -> _Unreadable:
        return _Unreadable(Problem(self._file, event.start_mark.line + 1, text))

    def _node(self, event: Any, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise self._unreadable(event, f"nested more than {DEPTH_MAX} levels deep")
        if getattr(event, "anchor", None) is not None:
            self._wrong(event, "YAML anchors and aliases are not supported; repeat the value")
        if getattr(event, "tag", None) is not None:
            self._wrong(event, f"YAML tags are not supported; remove {event.tag}")
        value: Scalar | dict[str, Node] | list[Node] = None
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(depth)
        elif isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        return Node(value, self._file, event.start_mark.line + 1)

    def _mapping(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            if key is None:
                self._wrong(event, "a key must be plain text")
                self._node(event, depth + 1)
            node = self._node(next(self._events), depth + 1)
            if key is None:
                continue
            if _CONTROL.search(key):
                self._wrong(event, "a control character in a key")
            elif key in entries:
                first = entries[key].line
                self._wrong(event, f"key {json.dumps(key)} is given twice, first on line {first}")
            else:
                entries[key] = replace(node, line=event.start_mark.line + 1)
        return entries

    def _list(self, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _scalar(self, event: Any) -> Scalar:
        def variable(match: re.Match[str]) -> str:
            if match[1] not in self._env:
                self._wrong(event, f"the environment variable {match[1]} is not set")
            return self._env.get(match[1], "")

        text = _VARIABLE.sub(variable, event.value)
        if _CONTROL.search(text):
            self._wrong(event, "a control character in a value")
            return ""
        return text if event.style else _resolved(text)


def _resolved(text: str) -> Scalar:
    """The value of an unquoted scalar (YAML 1.2 core schema; huge numbers stay text)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
