"""Workload files: exactly what is sent, and when, so that two targets can be asked the same.

A file is JSON lines: a heading, then one request a line in the order of their offsets. The heading
holds the SHA-256 of the request lines; a file that was changed by hand is refused.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serve.core.errors import SettingsError

SCHEMA: Final = "inhouse.workload/1"
FILE_MAX_BYTES: Final = 256 * 2**20
"""A workload is held in memory, encoded, while it is sent."""

T = TypeVar("T", bound=BaseModel)
Api = Literal["chat", "responses", "embeddings"]


class Strict(BaseModel):
    """Base of what is read from and written to files: immutable, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        ser_json_inf_nan="strings",
        protected_namespaces=(),
    )


class Message(Strict):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Planned(Strict):
    """One request: what is asked, and when after the start of the run."""

    id: Annotated[int, Field(ge=0)]
    offset_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    api: Api = "chat"
    messages: tuple[Message, ...] = ()
    texts: tuple[str, ...] = ()
    """What is embedded; for embeddings only."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    session: str | None = None
    """Requests of one conversation have the same; resampled together where results are compared."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.api == "embeddings" and not self.texts:
            raise ValueError("embeddings need texts")
        if self.api != "embeddings" and not self.messages:
            raise ValueError(f"{self.api} needs messages")
        return self


class Heading(Strict):
    """What the first line of a workload file says."""

    format: Annotated[Literal["inhouse.workload/1"], Field(alias="schema")] = SCHEMA
    name: Annotated[str, Field(min_length=1, max_length=200)]
    salt: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
    """Put before the first message of each request: no answer comes from an older run's cache."""
    fields: dict[str, Any] = {}
    """Further fields of each request's body."""
    origin: dict[str, Any] = {}
    """How the file was made: the generator and its arguments."""
    requests: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Workload:
    """A heading and its requests, in the order of their offsets."""

    heading: Heading
    requests: tuple[Planned, ...]

    @property
    def duration_s(self) -> float:
        """Over how long requests are offered: the last offset and one mean gap; 1 s for one."""
        return duration_s([one.offset_s for one in self.requests])

    @property
    def rate_per_s(self) -> float:
        """Requests offered a second."""
        return len(self.requests) / self.duration_s

    def at_rate(self, rate_per_s: float) -> tuple[float, ...]:
        """Its offsets, stretched or pressed together so that this rate is offered; in seconds."""
        if rate_per_s <= 0:
            raise SettingsError(f"a rate of {rate_per_s:g}/s: give one above 0")
        scale = self.rate_per_s / rate_per_s
        return tuple(one.offset_s * scale for one in self.requests)


def duration_s(offsets_s: Sequence[float]) -> float:
    """Over how long these requests are offered, in seconds. See `Workload.duration_s`."""
    count = len(offsets_s)
    last_s = max(offsets_s)
    return last_s * count / (count - 1) if count > 1 and last_s > 0 else 1.0


def workload(
    name: str, salt: str, requests: Iterable[Planned], *,
    origin: dict[str, Any] | None = None, fields: dict[str, Any] | None = None,
) -> Workload:  # fmt: skip
    """A workload of these requests. Raises SettingsError where there are none."""
    ordered = tuple(sorted(requests, key=lambda one: (one.offset_s, one.id)))
    if not ordered:
        raise SettingsError(f"{name}: a workload needs at least one request")
    heading = Heading(
        name=name, salt=salt, origin=origin or {}, fields=fields or {}, requests=len(ordered),
        sha256=_digest(_line(one) for one in ordered),
    )  # fmt: skip
    return Workload(heading, ordered)


def save(file: Path, what: Workload) -> None:
    """Write it. Raises SettingsError where the file would be larger than FILE_MAX_BYTES."""
    lines = [_line(one) for one in what.requests]
    size = sum(map(len, lines))
    if size > FILE_MAX_BYTES:
        raise SettingsError(
            f"{file}: {size / 2**20:.0f} MiB of requests, and {FILE_MAX_BYTES / 2**20:.0f} are the "
            "most; take fewer (--requests) or smaller ones (--tokens-a-block)"
        )
    head = what.heading.model_dump_json(by_alias=True).encode() + b"\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(head + b"".join(lines))


def load(file: Path) -> Workload:
    """Read one. Raises SettingsError that names the file, the line, the field and the fix."""
    try:
        if file.stat().st_size > FILE_MAX_BYTES * 1.1:
            raise SettingsError(f"{file}: larger than {FILE_MAX_BYTES / 2**20:.0f} MiB")
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise SettingsError(
            f"{file}: {error.strerror}; make one with `inhouse bench workload`"
        ) from None
    heading = _parsed(Heading, file, 1, lines[0])
    rest = [line + b"\n" for line in lines[1:] if line]
    requests = tuple(_parsed(Planned, file, number, line) for number, line in enumerate(rest, 2))
    if _digest(rest) != heading.sha256 or len(requests) != heading.requests:
        raise SettingsError(
            f"{file}: its requests are not those that its heading was written for (sha256 differs);"
            " make the file anew instead of editing it"
        )
    return Workload(heading, requests)


def _parsed(kind: type[T], file: Path, number: int, line: bytes) -> T:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or kind.__name__.lower()
        raise SettingsError(f"{file}:{number}: {where}: {first['msg']}") from None


def _line(request: Planned) -> bytes:
    return orjson.dumps(request.model_dump(exclude_defaults=True)) + b"\n"


def _digest(lines: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()
