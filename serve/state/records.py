"""What is kept of each durable object, as the stages hand it on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]
Items = Sequence[JSON]


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """One stored response.

    `body` is the response object as clients see it, `items` the input items of its own turn.
    `request` is what it was asked, kept while a background response may have to be run again.
    Times are Unix seconds; `expires_s` None keeps it until it is deleted.
    """

    id: str
    tenant: str
    created_s: float
    expires_s: float | None
    body: JSON
    items: tuple[JSON, ...]
    previous_id: str | None = None
    conversation: str | None = None
    background: bool = False
    request: Mapping[str, Any] | None = None

    @property
    def status(self) -> str:
        """As in the API: queued, in_progress, completed, incomplete, failed or cancelled."""
        return str(self.body["status"])


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a response's stream: its number and its frame as it was sent."""

    sequence_number: int
    frame: bytes
