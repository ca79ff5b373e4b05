"""One request to one model, as the stages hand it on."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from serve.core.grant import EVERYTHING, Grant
from serve.core.ledger import UNRECORDED, Reservation
from serve.core.provenance import UNKNOWN, Provenance
from serve.core.said import Said
from serve.core.usage import Usage

BACKGROUND: Final = ContextVar("background", default=False)
"""Whether what is done now is nobody's who waits for it, a batch's line: others come first."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `key` is the key's name, never the key; `id` tells apart keys of one name, which
    are the same principal."""

    key: str
    tenant: str = "default"
    id: str = field(default="", compare=False)
    grant: Grant = field(default=EVERYTHING, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request, bound to the model that will answer it.

    `body` is what the engine is sent, `asked` the name that the client gave the model. `tier` is
    the one that it is served in: `default`, `flex` or `priority`.
    """

    request_id: str
    endpoint: str
    path: str
    principal: Principal
    model_id: str
    body: Mapping[str, Any]
    choices: int
    include_usage: bool
    received_s: float
    max_output_tokens: int | None = None
    forced_tool: bool = False
    strict_tools: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    echo: Mapping[str, Any] = field(default_factory=dict)
    asked: str = ""
    tier: str = "default"


@dataclass(slots=True)
class Timeline:
    """Monotonic seconds at which a request reached each stage, and how it ended.

    `model_id` is the model that answers: another than was asked first, where one took its place.
    `finish` is why the answer's choices ended, in the engine's words. `said` is what it said, or
    its whole answer; `body_bytes` what it was sent takes;
    `text_begun` is set where its text is to be kept (`serve.core.text`).
    """

    model_id: str
    received_s: float
    admitted_s: float
    first_token_s: float | None = None
    last_token_s: float | None = None
    ended_s: float | None = None
    outcome: str = "ok"
    usage: Usage = field(default_factory=Usage)
    fingerprint: str = ""
    finish: str = ""
    provenance: Provenance = UNKNOWN
    said: Said | Mapping[str, Any] | None = None
    body_bytes: int = 0
    text_begun: int | None = None
    reservation: Reservation = UNRECORDED


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a tenant's limits on requests and on tokens: each the limit, what is left,
    and seconds until all of it is left again; None where nothing bounds them."""

    requests: tuple[int, int, float] | None = None
    tokens: tuple[int, int, float] | None = None


STANDING: Final[ContextVar[list[Standing] | None]] = ContextVar("standing", default=None)
"""Where the pipeline leaves what an answer's head shall say of its tenant's limits."""


class Sink(Protocol):
    """Where a stream's frames go; `write` waits while the reader is slow."""

    @property
    def started(self) -> bool:
        """Whether the reader has been told that the answer begins: errors are frames from then."""

    @property
    def produced(self) -> bool:
        """Whether any of the answer has been written: it is not begun anew from then."""

    async def write(self, frames: bytes) -> None:
        """Send frames, and the answer's head before the first of them."""

    async def comment(self, frames: bytes) -> None:
        """Send what is no part of the answer, and its head first; not while `write` does."""
