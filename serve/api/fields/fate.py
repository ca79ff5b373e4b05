"""What becomes of a request's field: the types of the endpoints' tables."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from serve.api.fields import faults


class Fate(StrEnum):
    """What this server does with a field that a client sends. `null` is the same as absent."""

    HONOURED = "honoured"
    ACCEPTED = "accepted without effect"
    REFUSED = "refused"


class Origin(StrEnum):
    """Whose field it is."""

    OPENAI = "OpenAI"
    VLLM = "vLLM"
    FORMER = "former vLLM"
    ANTHROPIC = "Anthropic"
    OTHERS = "Jina or Cohere"
    CODEX = "Codex"


@dataclass(frozen=True, slots=True)
class Check:
    """One rule for a value.

    `run(value, param)` returns what is used in the value's place, or raises InvalidRequest;
    `says` is the rule in words and `schema` in JSON Schema, for the documentation. The schema may
    take more than `run` does, never less.
    """

    says: str
    run: Callable[[Any, str], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request. `forwarded`: the checked value goes to the engine by this name."""

    name: str
    fate: Fate
    check: Check
    note: str
    origin: Origin
    forwarded: bool


def forwarded(name: str, check: Check, note: str = "", origin: Origin = Origin.OPENAI) -> Field:
    """A field the engine acts on."""
    return Field(name, Fate.HONOURED, check, note, origin, forwarded=True)


def honoured(name: str, check: Check, note: str, origin: Origin = Origin.OPENAI) -> Field:
    """A field the gateway acts on, or turns into something else for the engine."""
    return Field(name, Fate.HONOURED, check, note, origin, forwarded=False)


def accepted(name: str, check: Check, note: str, origin: Origin = Origin.OPENAI) -> Field:
    """A field that changes nothing: its shape is checked, and that is all."""
    return Field(name, Fate.ACCEPTED, check, note, origin, forwarded=False)


def refused(name: str, reason: str, origin: Origin = Origin.OPENAI) -> Field:
    """A field that would change the answer's meaning and cannot be honoured."""

    def run(_value: Any, param: str) -> Any:
        raise faults.unsupported(param, reason)

    return Field(name, Fate.REFUSED, Check("none", run), reason, origin, forwarded=False)


class Table:
    """Every field of one endpoint, and the pass over a request's body."""

    def __init__(self, endpoint: str, required: Iterable[str], fields: Iterable[Field]) -> None:
        self.endpoint: Final = endpoint
        self.required: Final = tuple(required)
        self.fields: Final[Mapping[str, Field]] = _by_name(fields)
        self._runs = {name: (f.check.run, f.forwarded) for name, f in self.fields.items()}

    def read(self, body: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """Checked values that are not null: those for the engine, and the gateway's own.

        `body` is what orjson made of the request. Raises InvalidRequest.
        """
        if type(body) is not dict:
            raise faults.wrong_type("body", "an object", body)
        engine: dict[str, Any] = {}
        own: dict[str, Any] = {}
        runs = self._runs
        for name, value in body.items():
            known = runs.get(name)
            if known is None:
                raise faults.unrecognized(name, self.fields)
            if value is None:
                continue
            run, forward = known
            if forward:
                engine[name] = run(value, name)
            else:
                own[name] = run(value, name)
        for name in self.required:
            if name not in own:
                raise faults.missing(name)
        return engine, own


def _by_name(fields: Iterable[Field]) -> dict[str, Field]:
    table: dict[str, Field] = {}
    for one in fields:
        if one.name in table:
            raise ValueError(f"two rows for {one.name}")
        table[one.name] = one
    return table
