"""What a regular expression may cost those who compile or match it, told from its text.

A pattern is compiled by the engine's grammar compiler, whose automaton grows with every counted
repetition, or matched by this process, where a repeated group that itself repeats or branches can
take exponential time. Both stop everyone else's requests.
"""

import re
from dataclasses import dataclass
from typing import Final

PATTERN_MAX_CHARS: Final = 1024
PATTERN_MAX_STATES: Final = 10_000
"""Characters of the pattern once every counted repetition is written out."""

_COUNT: Final = re.compile(r"\{(\d+)(,(\d*))?\}")


@dataclass(slots=True)
class _Group:
    """What has been read of one group: its states, and whether it repeats or branches."""

    states: int = 0
    last: int = 0
    last_wild: bool = False
    wild: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """`states` as in PATTERN_MAX_STATES; `nested`: a repeated group repeats or branches."""

    states: int
    nested: bool


def cost_of(pattern: str) -> Cost:
    """The cost of a pattern; of one that is malformed, a guess on the high side."""
    stack = [_Group()]
    nested = False
    place = 0
    while place < len(pattern):
        group = stack[-1]
        char = pattern[place]
        place += 1
        match char:
            case "(":
                stack.append(_Group())
                place += 2 * (pattern[place : place + 1] == "?")
            case ")" if len(stack) > 1:
                stack.pop()
                _atom(stack[-1], group.states, group.wild)
            case "|":
                group.wild = True
            case "[":
                place = _class_end(pattern, place)
                _atom(group, 1, wild=False)
            case "*" | "+":
                nested |= group.last_wild
                group.wild = group.last_wild = True
            case "?":
                pass
            case "{" if (count := _COUNT.match(pattern, place - 1)) is not None:
                place = count.end()
                times = int(count[3] or count[1])
                unbounded = count[2] is not None and not count[3]
                nested |= group.last_wild and (unbounded or times > 1)
                group.states += group.last * max(0, times - 1)
                group.last *= max(1, times)
                group.wild |= unbounded or count[2] is not None
                group.last_wild |= unbounded or count[2] is not None
            case _:
                place += char == "\\"
                _atom(group, 1, wild=False)
    return Cost(sum(group.states for group in stack), nested)


def _atom(group: _Group, states: int, wild: bool) -> None:
    group.states += states
    group.last = states
    group.last_wild = wild
    group.wild |= wild


def _class_end(pattern: str, place: int) -> int:
    """The place after the `]` of the class that began before `place`."""
    place += pattern[place : place + 1] == "^"
    place += pattern[place : place + 1] == "]"
    while place < len(pattern) and pattern[place] != "]":
        place += 2 if pattern[place] == "\\" else 1
    return place + 1
