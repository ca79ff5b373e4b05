"""A place for records that is only memory, and a clock that is set by hand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from serve.core.errors import StorageUnavailable
from serve.core.ledger import Closed, Opened, Settled
from serve.core.usage import Usage


@dataclass
class MemoryBooks:
    """See `serve.metering.books.Books`. While `broken`, it takes nothing."""

    records: dict[tuple[str, int], Settled] = field(default_factory=dict)
    broken: bool = False
    added: int = 0

    async def add(self, records: Sequence[Settled]) -> None:
        if self.broken:
            raise StorageUnavailable("the disk is full")
        for one in records:
            self.added += 1
            self.records.setdefault((one.opened.request_id, one.run), one)

    async def sync(self) -> None:
        if self.broken:
            raise StorageUnavailable("the disk is full")

    async def totals(self, since_day: int) -> Iterable[tuple[str, int, int, int]]:
        return [
            (
                one.opened.tenant,
                one.day,
                one.closed.usage.prompt + one.closed.usage.completion,
                one.cost_nano or 0,
            )
            for one in self.records.values()
            if one.day >= since_day
        ]


@dataclass
class SetClock:
    """Stands still but for who sets it."""

    wall: float = 1_800_000_000.0
    monotonic: float = 1000.0

    def monotonic_s(self) -> float:
        return self.monotonic

    def wall_s(self) -> float:
        return self.wall


def flat(model: str, at_s: float, usage: Usage) -> int | None:
    """A price of one billionth a token."""
    del model, at_s
    return usage.prompt + usage.completion


def opened(request_id: str, tenant: str = "acme", received_s: float = 1_800_000_000.0) -> Opened:
    return Opened(request_id, tenant, "a key", "chat.completions", "m", "default", received_s)


def closed(prompt: int, completion: int, outcome: str = "ok") -> Closed:
    return Closed(outcome, "m", "fp_1", "stop", Usage(prompt, completion), 0.001, 0.01, 0.5)
