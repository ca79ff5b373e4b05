"""What a turn needs around it: what is kept, and the tools that this server calls itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from serve.state.records import Event, ResponseRecord
from serve.toolservers.records import Terms, Tool, ToolCall

JSON = dict[str, Any]


class ResponseStore(Protocol):
    """Responses by tenant; another tenant's does not exist. All raise StorageUnavailable."""

    async def add(self, record: ResponseRecord, begun: int | None = None) -> None:
        """Keep a new one. `begun`: the tenant's erasures when its request came.

        Raises Conflict where the tenant has been erased since.
        """

    async def put(self, record: ResponseRecord) -> bool:
        """Keep a background response as it is now; False where it has been deleted meanwhile, or
        another gateway has taken it over."""

    async def get(self, tenant: str, response_id: str) -> ResponseRecord:
        """Raises NotFound."""

    async def history(self, tenant: str, response_id: str) -> tuple[JSON, ...]:
        """All items of the chain that ends in this response, oldest first.

        Of each response its input items, then its output. Raises NotFound where it, or one that
        it goes back to, is gone.
        """

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget it and its events. Raises NotFound."""

    async def append_events(self, response_id: str, events: Sequence[Event]) -> bool:
        """Keep what was streamed; False, and nothing is kept, where `put` would say so."""

    async def events(self, tenant: str, response_id: str, after: int) -> list[Event]:
        """Events with a number above `after`, in order. Raises NotFound for the response."""

    async def take_over(self) -> list[ResponseRecord]:
        """Own those that gateways which are not there any more have left queued or in progress."""


class ConversationStore(Protocol):
    """Conversations by tenant; another tenant's does not exist."""

    async def items(self, tenant: str, conversation_id: str) -> tuple[JSON, ...]:
        """All its items, oldest first. Raises NotFound."""

    async def begin_turn(self, tenant: str, conversation_id: str, turn_id: str) -> None:
        """Let no other turn begin, and nobody else change its items, until this one ends.

        Raises NotFound, and InvalidRequest (`conversation_locked`) while another turn runs.
        """

    async def end_turn(self, conversation_id: str, turn_id: str) -> None:
        """Let others; nothing happens where this turn does not have it any more."""


class Ends(Protocol):
    """Where turns end: the response and what its conversation gains of it, both or neither."""

    async def close(
        self, record: ResponseRecord, items: Sequence[JSON], begun: int | None, *, stored: bool
    ) -> bool:
        """Keep the response, where it is to be `stored`, and add `items` to its conversation,
        whose turn is over then.

        False, and nothing is added, where a background response has been deleted meanwhile.
        Raises NotFound where the conversation is gone, InvalidRequest where it has one of the
        items or another's turn has begun, and Conflict where the tenant has been erased.
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
