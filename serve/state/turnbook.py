"""How turns end: the response and what its conversation gains of it, both or neither."""

from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from serve.state.conversations import Conversations, item_is_there
from serve.state.records import JSON, ResponseRecord
from serve.state.responses import Responses
from serve.store.database import Database


class Turnbook:
    """Writes the end of a turn in one transaction."""

    def __init__(
        self, database: Database, responses: Responses, conversations: Conversations
    ) -> None:
        self._database = database
        self._responses = responses
        self._conversations = conversations

    async def close(
        self, record: ResponseRecord, items: Sequence[JSON], begun: int | None, *, stored: bool
    ) -> bool:
        """Keep the response, where it is to be `stored`, and add `items` to its conversation.

        False, and nothing is added, where a background response has been deleted meanwhile.
        `begun`: the tenant's erasures when the request came. Raises NotFound where the
        conversation is gone, InvalidRequest where it has one of the items or another's turn has
        begun, and Conflict where the tenant has been erased; nothing is kept then.
        """

        def work(connection: Connection) -> bool:
            if stored and record.background:
                if not self._responses.replaced(connection, record):
                    return False
            elif stored:
                self._responses.added(connection, record, begun)
            if record.conversation is not None:
                self._conversations.end_with(connection, record, items)
            return True

        try:
            kept = await self._database.write(work)
        except IntegrityError:
            raise item_is_there() from None
        if kept and stored:
            self._responses.remember(record)
        return kept
