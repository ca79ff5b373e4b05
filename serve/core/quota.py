"""What is kept of quotas between two starts: the types that the counting and the keeping share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Slot(NamedTuple):
    """Five minutes of one daily window. `scope` is a model, or empty for all of them together."""

    tenant: str
    scope: str
    kind: str
    slot: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """That it was `wall_s` when the monotonic clock showed `monotonic_s`."""

    monotonic_s: float
    wall_s: float


class Counted(Protocol):
    """Who counts. Amounts are added to what is kept, and may be negative."""

    def load(self, rows: Iterable[tuple[Slot, int]]) -> None:
        """What was kept of the last day, before the first request."""

    def take_changes(self) -> dict[Slot, int]:
        """What has come since the last time."""

    def give_back(self, changes: Mapping[Slot, int]) -> None:
        """Changes that could not be kept: they are among the next."""
