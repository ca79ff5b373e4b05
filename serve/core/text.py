"""What was asked and answered, where a tenant wants it kept: the port to who keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Text:
    """One request to an engine. `asked` is all that it takes to ask it again, `receipt` its record
    in the audit log; `begun` counts the tenant's erasures when it came."""

    request_id: str
    tenant: str
    asked: Mapping[str, Any]
    answer: Any
    receipt: Mapping[str, Any]
    begun: int | None = None


class Texts(Protocol):
    """Keeps texts until they expire, or their tenant is erased."""

    async def add(self, texts: Sequence[Text]) -> None:
        """Raises StorageUnavailable; then none was added. What was erased since is left out."""
