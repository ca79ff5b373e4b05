"""What was used, as it is accounted for: the ports between a request and the ledger.

A request is reserved when it is admitted, what is known of its tokens is noted on the way, and it
is settled once, whatever became of it. Money is whole billionths of the prices' currency.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from serve.core.usage import Usage

NANO: Final = 1_000_000_000
"""Parts of one unit of the currency in which money is counted."""
DAY_S: Final = 86_400

Period = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Opened:
    """An admitted request. `received_s` is Unix time, by the machine's clock of then."""

    request_id: str
    tenant: str
    key: str
    endpoint: str
    model: str
    tier: str
    received_s: float


@dataclass(frozen=True, slots=True)
class Closed:
    """How a request ended. Durations are seconds by a clock that is never set.

    `model` is the pinned name of the model that answered, `finish` why its choices ended,
    `outcome` as in the metrics; `crashed` where the server ended first.
    """

    outcome: str
    model: str
    fingerprint: str = ""
    finish: str = ""
    usage: Usage = field(default_factory=Usage)
    queue_s: float | None = None
    ttft_s: float | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The record of one request. `run` tells apart what one request had done in several runs.

    `cost_nano` is None where no price was in force.
    """

    run: int
    opened: Opened
    closed: Closed
    cost_nano: int | None

    @property
    def day(self) -> int:
        """Days since 1970-01-01 at which it was received, in UTC."""
        return int(self.opened.received_s // DAY_S)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a tenant has used in a period: tokens of prompts and answers, and their price."""

    tokens: int = 0
    cost_nano: int = 0


class Spending(Protocol):
    """Who knows what each tenant has used."""

    def spent(self, tenant: str, period: Period) -> Spent:
        """Used since this UTC day or month began, by settled requests.

        What is dated later than now counts too, so that a clock that is set back opens no new
        period.
        """


class Reservation(Protocol):
    """One admitted request, until it is settled."""

    async def durable(self) -> None:
        """Wait until the reservation is on the disk.

        Raises StorageUnavailable where it cannot be put there.
        """

    def note(self, usage: Usage) -> None:
        """These tokens have been used so far: what a crash leaves to be accounted for."""

    def settle(self, closed: Closed) -> None:
        """The request has ended; does nothing the second time."""


class Ledger(Protocol):
    """Keeps a record of every admitted request."""

    def reserve(self, opened: Opened) -> Reservation:
        """Begin a request's record.

        Raises StorageUnavailable where there is no room left for it: nothing must be begun then.
        """


class _Unrecorded:
    """A reservation in no ledger."""

    async def durable(self) -> None:
        return

    def note(self, usage: Usage) -> None:
        del usage

    def settle(self, closed: Closed) -> None:
        del closed


UNRECORDED: Final[Reservation] = _Unrecorded()


class NoLedger:
    """Keeps nothing: for parts of a server that are run by themselves."""

    def reserve(self, opened: Opened) -> Reservation:
        del opened
        return UNRECORDED
