"""Conversations: items in their order, shared by the turns that name them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    RowMapping,
    Update,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from serve.core.errors import InvalidRequest, NotFound
from serve.state import custody
from serve.state.gateways import ALONE
from serve.state.page import Cut, page_of
from serve.state.records import JSON, Items, ResponseRecord
from serve.store.database import Database
from serve.store.tables import CONVERSATION_ITEMS, CONVERSATIONS


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """One conversation without its items. Times are Unix seconds."""

    id: str
    tenant: str
    created_s: float
    expires_s: float | None
    metadata: JSON


@dataclass(frozen=True, slots=True)
class ItemPage:
    """`has_more`: others follow in the list's order."""

    items: tuple[JSON, ...]
    has_more: bool


class Conversations:
    """Conversations by tenant: another tenant's, a deleted and an expired one do not exist.

    `wall_s` is the time that expiry is told by; `ttl_s` how long a tenant's are kept after their
    last change, None for ever; `owner` the gateway whose turns begin here.
    """

    def __init__(
        self,
        database: Database,
        ttl_s: Callable[[str], float | None],
        wall_s: Callable[[], float] = time.time,
        owner: str = ALONE,
    ) -> None:
        self._database = database
        self._owner = owner
        self._ttl_s = ttl_s
        self._wall_s = wall_s

    async def add(
        self, tenant: str, conversation_id: str, metadata: JSON, items: Sequence[JSON]
    ) -> ConversationRecord:
        """Make one with its first items. Raises InvalidRequest for two items with one id."""
        now_s = self._wall_s()
        record = ConversationRecord(
            conversation_id, tenant, now_s, self._expiry(tenant, now_s), metadata
        )

        def work(connection: Connection) -> None:
            custody.admit(connection, tenant)
            values = {
                "id": record.id, "tenant": tenant, "created_s": now_s,
                "expires_s": record.expires_s, "metadata": metadata,
            }  # fmt: skip
            connection.execute(CONVERSATIONS.insert().values(values))
            _insert(connection, record.id, items)

        try:
            await self._database.write(work)
        except IntegrityError:
            raise item_is_there() from None
        return record

    async def get(self, tenant: str, conversation_id: str) -> ConversationRecord:
        """Raises NotFound."""
        return await self._database.read(
            lambda connection: self._found(connection, tenant, conversation_id)
        )

    async def update(self, tenant: str, conversation_id: str, metadata: JSON) -> ConversationRecord:
        """Replace its metadata. Raises NotFound."""

        def work(connection: Connection) -> ConversationRecord:
            self._touch(connection, tenant, conversation_id)
            same = CONVERSATIONS.c.id == conversation_id
            connection.execute(CONVERSATIONS.update().where(same).values(metadata=metadata))
            return self._found(connection, tenant, conversation_id)

        return await self._database.write(work)

    async def delete(self, tenant: str, conversation_id: str) -> None:
        """Forget it and its items. Raises NotFound."""
        which = (CONVERSATIONS.c.id == conversation_id) & self._there(tenant)
        now_s = self._wall_s()
        taken = await self._database.write(
            lambda c: custody.take_away(c, CONVERSATIONS, which, tenant, now_s)
        )
        if not taken.count:
            raise conversation_not_found(conversation_id)

    async def items(self, tenant: str, conversation_id: str) -> tuple[JSON, ...]:
        """All its items, oldest first. Raises NotFound."""

        def work(connection: Connection) -> tuple[JSON, ...]:
            self._found(connection, tenant, conversation_id)
            query = (
                select(CONVERSATION_ITEMS.c.body)
                .where(_of(conversation_id))
                .order_by(CONVERSATION_ITEMS.c.seq)
            )
            return tuple(connection.execute(query).scalars())

        return await self._database.read(work)

    async def append(self, tenant: str, conversation_id: str, items: Sequence[JSON]) -> None:
        """Add items at its end, all or none.

        Raises NotFound, and InvalidRequest where one of them is there already or a turn runs.
        """

        def work(connection: Connection) -> None:
            self._change_items(connection, tenant, conversation_id)
            _insert(connection, conversation_id, items)

        try:
            await self._database.write(work)
        except IntegrityError:
            raise item_is_there() from None

    async def begin_turn(self, tenant: str, conversation_id: str, turn_id: str) -> None:
        """Let no other turn begin, and nobody else change its items, until this one ends.

        Raises NotFound, and InvalidRequest (`conversation_locked`) while another turn runs.
        """
        own = CONVERSATIONS.c
        free = or_(own.turn.is_(None), own.turn == turn_id)
        there = (own.id == conversation_id) & self._there(tenant)
        taken = update(CONVERSATIONS).where(there, free).values(turn=turn_id, owner=self._owner)

        def work(connection: Connection) -> None:
            if not connection.execute(taken).rowcount:
                self._found(connection, tenant, conversation_id)
                raise locked()

        await self._database.write(work)

    async def end_turn(self, conversation_id: str, turn_id: str) -> None:
        """Let others; nothing happens where this turn does not have it any more."""
        await self._database.write(lambda c: _end_turn(c, conversation_id, turn_id))

    def end_with(self, connection: Connection, record: ResponseRecord, items: Items) -> None:
        """Add what a turn made, and let others, as a step of a larger work.

        Raises NotFound, InvalidRequest where another's turn has begun, and IntegrityError.
        """
        assert record.conversation is not None
        self._change_items(connection, record.tenant, record.conversation, record.id)
        _insert(connection, record.conversation, items)
        _end_turn(connection, record.conversation, record.id)

    async def page(self, tenant: str, conversation_id: str, cut: Cut) -> ItemPage:
        """Some of its items. Raises NotFound, and InvalidRequest for a start that is none."""

        def work(connection: Connection) -> ItemPage:
            self._found(connection, tenant, conversation_id)
            query = select(CONVERSATION_ITEMS).where(_of(conversation_id))
            page = page_of(connection, CONVERSATION_ITEMS, query, cut)
            return ItemPage(tuple(row["body"] for row in page.rows), page.has_more)

        return await self._database.read(work)

    async def item(self, tenant: str, conversation_id: str, item_id: str) -> JSON:
        """Raises NotFound for either."""

        def work(connection: Connection) -> JSON | None:
            self._found(connection, tenant, conversation_id)
            query = select(CONVERSATION_ITEMS.c.body).where(_item(conversation_id, item_id))
            return connection.execute(query).scalar()

        found = await self._database.read(work)
        if found is None:
            raise _item_not_found(item_id)
        return found

    async def delete_item(
        self, tenant: str, conversation_id: str, item_id: str
    ) -> ConversationRecord:
        """Forget one item. Raises NotFound for either, and InvalidRequest while a turn runs."""

        def work(connection: Connection) -> ConversationRecord:
            held = custody.standing_of(connection, tenant).held_s is not None
            self._change_items(connection, tenant, conversation_id)
            which = _item(conversation_id, item_id)
            gone: Update | Delete = _hidden(self._wall_s()) if held else delete(CONVERSATION_ITEMS)
            if not connection.execute(gone.where(which)).rowcount:
                raise _item_not_found(item_id)
            return self._found(connection, tenant, conversation_id)

        return await self._database.write(work)

    def _found(
        self, connection: Connection, tenant: str, conversation_id: str
    ) -> ConversationRecord:
        query = select(CONVERSATIONS).where(
            CONVERSATIONS.c.id == conversation_id, self._there(tenant)
        )
        row = connection.execute(query).mappings().first()
        if row is None:
            raise conversation_not_found(conversation_id)
        return _record(row)

    def _change_items(
        self, connection: Connection, tenant: str, conversation_id: str, turn_id: str | None = None
    ) -> None:
        if self._touch(connection, tenant, conversation_id) not in (None, turn_id):
            raise locked()

    def _touch(self, connection: Connection, tenant: str, conversation_id: str) -> str | None:
        """Keep it for as long again; the turn that runs in it.

        On PostgreSQL who else would change it waits from here on.
        """
        now_s = self._wall_s()
        touched = (
            CONVERSATIONS.update()
            .where(CONVERSATIONS.c.id == conversation_id, self._there(tenant))
            .values(expires_s=self._expiry(tenant, now_s))
            .returning(CONVERSATIONS.c.turn)
        )
        row = connection.execute(touched).one_or_none()
        if row is None:
            raise conversation_not_found(conversation_id)
        turn: str | None = row[0]
        return turn

    def _expiry(self, tenant: str, now_s: float) -> float | None:
        ttl_s = self._ttl_s(tenant)
        return None if ttl_s is None else now_s + ttl_s

    def _there(self, tenant: str) -> ColumnElement[bool]:
        expires = CONVERSATIONS.c.expires_s
        alive = or_(expires.is_(None), expires > self._wall_s())
        return (CONVERSATIONS.c.tenant == tenant) & alive


def conversation_not_found(conversation_id: str) -> NotFound:
    """In the words of the API."""
    return NotFound(f"Conversation with id {conversation_id[:80]!r} not found.")


def _item_not_found(item_id: str) -> NotFound:
    return NotFound(f"Conversation item with id {item_id[:80]!r} not found.")


def locked() -> InvalidRequest:
    """In the API's status and code; the hosted one refuses a second turn in the same way."""
    return InvalidRequest(
        "Another response is being made in this conversation; try again once it has ended.",
        param="conversation",
        code="conversation_locked",
    )


def item_is_there() -> InvalidRequest:
    """In words that name the request's field."""
    return InvalidRequest(
        "An item with the same id is in this conversation already.", param="items"
    )


def _of(conversation_id: str) -> ColumnElement[bool]:
    own = CONVERSATION_ITEMS.c
    return (own.conversation == conversation_id) & own.removed_s.is_(None)


def _item(conversation_id: str, item_id: str) -> ColumnElement[bool]:
    return _of(conversation_id) & (CONVERSATION_ITEMS.c.id == item_id)


def _hidden(now_s: float) -> Update:
    """Kept under an id that nobody knows: its own is free for another."""
    return update(CONVERSATION_ITEMS).values(removed_s=now_s, id=f"removed_{token_hex(16)}")


def _end_turn(connection: Connection, conversation_id: str, turn_id: str) -> None:
    own = CONVERSATIONS.c
    mine = update(CONVERSATIONS).where(own.id == conversation_id, own.turn == turn_id)
    connection.execute(mine.values(turn=None, owner=None))


def _insert(connection: Connection, conversation_id: str, items: Sequence[JSON]) -> None:
    if items:
        rows = [{"conversation": conversation_id, "id": i["id"], "body": i} for i in items]
        connection.execute(CONVERSATION_ITEMS.insert(), rows)


def _record(row: RowMapping) -> ConversationRecord:
    return ConversationRecord(
        row["id"], row["tenant"], row["created_s"], row["expires_s"], row["metadata"]
    )
