"""The questions of an eval set: JSONL, checked line by line before anything is asked.

A line is `{"name", "messages", "expected", "max_tokens"}`; `messages` as in chat completions,
`expected` one of
- `{"exact": TEXT}`: the answer, without the space around it, is that text;
- `{"regex": PATTERN}`: the pattern is found somewhere in the answer;
- `{"json_schema": SCHEMA}`: the answer is JSON that the schema allows;
- `{"choice": [TEXT, …]}`: the answer is one of these, whatever its case and its last full stop.
Lines that are empty or begin with `#` do not count.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import jsonschema
from pydantic import Field, ValidationError, model_validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from serve.core.errors import SettingsError
from serve.core.patterns import PATTERN_MAX_CHARS, PATTERN_MAX_STATES, cost_of
from serve.settings.evals import EvalSet
from serve.settings.terms import Frozen

FILE_MIB_MAX: Final = 64
MAX_TOKENS: Final = 256
"""Of an answer whose case does not say how long it may be."""

_EMPTY: Final = Registry[Any]()
"""A schema's references lead nowhere but into itself: nothing is fetched."""


class Expected(Frozen):
    """What an answer must be; exactly one of these is given."""

    exact: str | None = None
    regex: Annotated[str, Field(max_length=PATTERN_MAX_CHARS)] | None = None
    json_schema: dict[str, Any] | bool | None = None
    choice: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "Expected":
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of exact, regex, json_schema, choice")
        if self.regex is not None:
            _check_pattern(self.regex)
        if self.json_schema is not None:
            _check_schema(self.json_schema)
        return self

    def __str__(self) -> str:
        (kind,) = self.model_fields_set
        return f"{kind} {json.dumps(getattr(self, kind), ensure_ascii=False)}"

    def met_by(self, answer: str) -> bool:
        """Whether this answer will do."""
        text = answer.strip()
        if self.exact is not None:
            return text == self.exact.strip()
        if self.regex is not None:
            return re.search(self.regex, answer) is not None
        if self.choice is not None:
            return _folded(text) in {_folded(one) for one in self.choice}
        return _allowed(text, self.json_schema)


class Message(Frozen):
    """One message of the question."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class Case(Frozen):
    """One question. `line` is where it stands in its file, from 1."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=256)]
    expected: Expected
    max_tokens: Annotated[int, Field(ge=1, le=65_536)] = MAX_TOKENS
    name: Annotated[str, Field(max_length=200)] | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Cases:
    """An eval set that has been read; `digest` is of the file's bytes."""

    set: EvalSet
    digest: str
    cases: tuple[Case, ...] = field(repr=False)


def read_cases(one: EvalSet) -> Cases:
    """The questions of an eval set. Raises SettingsError with file, line and what is wrong."""
    path = one.path
    try:
        with path.open("rb") as opened:
            raw = opened.read(FILE_MIB_MAX * 2**20 + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > FILE_MIB_MAX * 2**20:
        raise SettingsError(f"{path}: larger than {FILE_MIB_MAX} MiB; split it into several sets")
    cases = tuple(_cases(path, raw))
    if not cases:
        raise SettingsError(f"{path}: no questions; one JSON object a line")
    if len(cases) > one.max_cases:
        raise SettingsError(
            f"{path}: {len(cases)} questions, max_cases is {one.max_cases}; raise it or split the "
            "file"
        )
    return Cases(one, f"sha256:{hashlib.sha256(raw).hexdigest()}", cases)


def _cases(path: Path, raw: bytes) -> Iterator[Case]:
    # By line feeds alone: JSON text may hold other characters that end a line elsewhere.
    for number, line in enumerate(raw.split(b"\n"), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            given = json.loads(text)
            if not isinstance(given, dict):
                raise SettingsError(f"{path}:{number}: not a JSON object")
            if "line" in given:
                raise SettingsError(f"{path}:{number}: line: unknown key")
            case = Case.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise SettingsError(f"{path}:{number}: {_wrong(error)}") from None
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{path}:{number}: not JSON: {error}") from None
        yield case.model_copy(update={"line": number})


def _wrong(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown key"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


def _check_pattern(pattern: str) -> None:
    """Refuse what does not compile, or may take exponential time to match."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"regex: {error}") from None
    cost = cost_of(pattern)
    if cost.nested or cost.states > PATTERN_MAX_STATES:
        raise ValueError(
            "regex: a repeated group that itself repeats or branches, or too long a repetition, "
            "can take for ever to match; say it without"
        )


def _check_schema(schema: Any) -> None:
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"json_schema: {error.message}") from None
    for pattern in _patterns(schema):
        _check_pattern(pattern)


def _patterns(schema: Any) -> Iterator[str]:
    """Every regular expression of a schema, and perhaps texts that only stand where one may."""
    if isinstance(schema, list):
        for one in schema:
            yield from _patterns(one)
    if not isinstance(schema, dict):
        return
    if isinstance(pattern := schema.get("pattern"), str):
        yield pattern
    if isinstance(named := schema.get("patternProperties"), dict):
        yield from named
    for below in schema.values():
        yield from _patterns(below)


def _allowed(text: str, schema: Any) -> bool:
    try:
        value = json.loads(text)
        return jsonschema.Draft202012Validator(schema, registry=_EMPTY).is_valid(value)
    except (ValueError, RecursionError, Unresolvable):
        return False


def _folded(text: str) -> str:
    return text.strip().removesuffix(".").casefold()
