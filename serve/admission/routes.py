"""Which model a route picks: pure, by rules that the site file spells out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from serve.settings.routes import Route, When

OTHERWISE: Final = "otherwise"
"""What answers name as the rule where none held."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules may ask of a checked request; `prompt_chars` counts all its texts together."""

    prompt_chars: int
    tools: bool
    reasoning_effort: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that a route picked, and the rule that did."""

    route: str
    rule: str
    model: str


def choose(route: Route, facts: Facts) -> Choice:
    """The first rule that holds decides."""
    for rule in route.rules:
        if holds(rule.when, facts):
            return Choice(route.name, rule.name, rule.model)
    return Choice(route.name, OTHERWISE, route.otherwise)


def holds(when: When, facts: Facts) -> bool:
    """Whether everything that is asked for is so."""
    least, most = when.prompt_chars_min, when.prompt_chars_max
    return (
        (least is None or facts.prompt_chars >= least)
        and (most is None or facts.prompt_chars <= most)
        and (when.tools is None or when.tools == facts.tools)
        and (not when.reasoning_effort or facts.reasoning_effort in when.reasoning_effort)
        and all(facts.metadata.get(key) == value for key, value in when.metadata.items())
    )
