"""What a turn needs of what is kept: the stores of responses and of conversations."""

from collections.abc import Sequence
from typing import Any, Protocol

from serve.state.records import Event, ResponseRecord

JSON = dict[str, Any]


class ResponseStore(Protocol):
    """Responses by tenant; another tenant's does not exist. All raise StorageUnavailable."""

    async def put(self, record: ResponseRecord) -> None:
        """Keep it; one that is there under this id is replaced."""

    async def get(self, tenant: str, response_id: str) -> ResponseRecord:
        """Raises NotFound."""

    async def history(self, tenant: str, response_id: str) -> tuple[JSON, ...]:
        """All items of the chain that ends in this response, oldest first.

        Of each response its input items, then its output. Raises NotFound where it, or one that
        it goes back to, is gone.
        """

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget it and its events. Raises NotFound."""

    async def append_events(self, response_id: str, events: Sequence[Event]) -> None:
        """Keep what was streamed."""

    async def events(self, tenant: str, response_id: str, after: int) -> list[Event]:
        """Events with a number above `after`, in order. Raises NotFound for the response."""

    async def unfinished(self) -> list[ResponseRecord]:
        """Those that a server which ended has left queued or in progress."""


class ConversationStore(Protocol):
    """Conversations by tenant; another tenant's does not exist."""

    async def items(self, tenant: str, conversation_id: str) -> tuple[JSON, ...]:
        """All its items, oldest first. Raises NotFound."""

    async def append(self, tenant: str, conversation_id: str, items: Sequence[JSON]) -> None:
        """Add items at its end, all or none.

        Raises NotFound, and InvalidRequest where one of them is there already.
        """
