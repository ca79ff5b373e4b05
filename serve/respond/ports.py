"""What a turn needs around it: what is kept, and the tools that this server calls itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from serve.state.records import Event, ResponseRecord
from serve.toolservers.records import Terms, Tool, ToolCall

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


class ToolServers(Protocol):
    """The servers that the site names, by label. Each call is bounded, counted and written down."""

    def terms(self, tenant: str) -> Mapping[str, Terms]:
        """Those that a tenant may use, and on which terms."""

    async def tools(self, label: str) -> tuple[Tool, ...]:
        """What a server offers now. Raises ToolFailed."""

    async def call(self, call: ToolCall) -> str:
        """The result of one call, as text. Raises ToolFailed."""

    def refused(self, call: ToolCall) -> None:
        """Write down a call that the model asked for and that is not made."""
