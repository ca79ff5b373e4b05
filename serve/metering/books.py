"""Where the ledger keeps its records for good: a port, which `serve.state.usage` fits."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from serve.core.ledger import Settled
from serve.metering.spending import Total


class Books(Protocol):
    """Where records are kept for good."""

    async def add(self, records: Sequence[Settled]) -> None:
        """Add those that are not there yet. Raises StorageUnavailable; then none was added."""

    async def sync(self) -> None:
        """What was added is on the disk when this returns. Raises StorageUnavailable."""

    async def totals(self, since_day: int) -> Iterable[Total]:
        """Sums by tenant and day. Raises StorageUnavailable."""
