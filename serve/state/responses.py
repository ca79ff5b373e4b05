"""Stored responses, the chains they make, and what background ones have streamed."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    literal,
    or_,
    select,
)

from serve.core.errors import NotFound
from serve.state import custody
from serve.state.gateways import ALONE, orphaned, take_over
from serve.state.recent import Recent
from serve.state.records import JSON, Event, ResponseRecord
from serve.store.database import Database
from serve.store.tables import RESPONSE_EVENTS, RESPONSES

CHAIN_MAX: Final = 10_000
"""Responses in one chain; a longer one is refused as if its beginning were gone."""

_UNFINISHED: Final = ("queued", "in_progress")
_INSERT: Final = RESPONSES.insert()


class Responses:
    """Responses by tenant: another tenant's, a deleted and an expired one do not exist.

    `wall_s` is the time that expiry is told by, `owner` the gateway that works on those which run
    in the background.
    """

    def __init__(
        self,
        database: Database,
        wall_s: Callable[[], float] = time.time,
        recent: Recent | None = None,
        owner: str = ALONE,
    ) -> None:
        self._database = database
        self._owner = owner
        self._wall_s = wall_s
        self._recent = recent or Recent(0)

    async def add(self, record: ResponseRecord, begun: int | None = None) -> None:
        """Keep a new one. `begun`: the tenant's erasures when its request came.

        Raises Conflict where the tenant has been erased since.
        """
        await self._database.write(lambda c: self.added(c, record, begun))
        self.remember(record)

    async def put(self, record: ResponseRecord) -> bool:
        """Keep a background response as it is now; False where it has been deleted meanwhile, or
        another gateway has taken it over."""
        there = await self._database.write(lambda c: self.replaced(c, record))
        if there:
            self.remember(record)
        return there

    def added(self, connection: Connection, record: ResponseRecord, begun: int | None) -> None:
        """`add` as a step of a larger work, after which comes `remember`."""
        custody.admit(connection, record.tenant, begun)
        connection.execute(_INSERT, self._columns(record))

    def replaced(self, connection: Connection, record: ResponseRecord) -> bool:
        """`put` as a step of a larger work, after which comes `remember`."""
        same = RESPONSES.update().where(
            RESPONSES.c.id == record.id,
            RESPONSES.c.owner == self._owner,
            self._there(record.tenant),
        )
        return bool(connection.execute(same.values(self._columns(record))).rowcount)

    def remember(self, record: ResponseRecord) -> None:
        """It has been written as it is here."""
        self._recent.remember(record)

    async def get(self, tenant: str, response_id: str) -> ResponseRecord:
        """Raises NotFound."""

        def work(connection: Connection) -> RowMapping | None:
            query = select(RESPONSES).where(RESPONSES.c.id == response_id, self._there(tenant))
            return connection.execute(query).mappings().first()

        row = await self._database.read(work)
        if row is None:
            raise not_found(response_id)
        return _record(row)

    async def history(self, tenant: str, response_id: str) -> tuple[JSON, ...]:
        """All items of the chain that ends in this response, oldest first.

        Of each response its input items, then its output. Raises NotFound where it, or one that
        it goes back to, is gone.
        """
        known = self._recent.chain(tenant, response_id, self._wall_s())
        if known is not None:
            return known
        rows = await self._database.read(lambda c: self._chain(c, tenant, response_id))
        if not rows:
            raise not_found(response_id)
        missing = rows[0]["previous_id"]
        if missing is not None:
            raise not_found(missing)
        return tuple(item for row in rows for item in (*row["items"], *row["output"]))

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget it and its events. Raises NotFound."""
        which = (RESPONSES.c.id == response_id) & self._there(tenant)
        now_s = self._wall_s()
        taken = await self._database.write(
            lambda c: custody.take_away(c, RESPONSES, which, tenant, now_s)
        )
        if not taken.count:
            raise not_found(response_id)
        self._recent.forget(response_id)

    async def append_events(self, response_id: str, events: Sequence[Event]) -> bool:
        """Keep what was streamed; False, and nothing is kept, where `put` would say so."""
        rows = [
            {"response": response_id, "sequence_number": e.sequence_number, "frame": e.frame}
            for e in events
        ]

        def work(connection: Connection) -> bool:
            owner = RESPONSES.c.owner
            mine = or_(owner.is_(None), owner == self._owner)
            known = select(RESPONSES.c.id).where(RESPONSES.c.id == response_id, mine, self._alive())
            # On PostgreSQL, who would delete it waits until these events are there to go with it.
            if connection.execute(known.with_for_update(read=True)).first() is None:
                return False
            if rows:
                connection.execute(RESPONSE_EVENTS.insert(), rows)
            return True

        return await self._database.write(work)

    async def events(self, tenant: str, response_id: str, after: int) -> list[Event]:
        """Events with a number above `after`, in order. Raises NotFound for the response."""
        events = RESPONSE_EVENTS.c
        query = (
            select(events.sequence_number, events.frame)
            .where(events.response == response_id, events.sequence_number > after)
            .order_by(events.sequence_number)
        )

        def work(connection: Connection) -> list[Event] | None:
            known = select(RESPONSES.c.id).where(RESPONSES.c.id == response_id, self._there(tenant))
            if connection.execute(known).first() is None:
                return None
            return [Event(number, frame) for number, frame in connection.execute(query)]

        found = await self._database.read(work)
        if found is None:
            raise not_found(response_id)
        return found

    async def take_over(self) -> list[ResponseRecord]:
        """Own those that gateways which are not there any more have left queued or in progress."""
        left = await self._database.read(lambda c: orphaned(c, RESPONSES))

        def work(connection: Connection) -> list[RowMapping]:
            mine = [
                name for name, former in left
                if take_over(connection, RESPONSES, name, former, self._owner)
            ]  # fmt: skip
            query = select(RESPONSES).where(RESPONSES.c.id.in_(mine), self._alive())
            return list(connection.execute(query).mappings())

        rows = await self._database.write(work) if left else []
        return [_record(row) for row in rows]

    def _chain(self, connection: Connection, tenant: str, response_id: str) -> Sequence[RowMapping]:
        own = RESPONSES.c
        columns = (own.previous_id, own["items"], own.output)
        chain = (
            select(*columns, literal(0).label("depth"))
            .where(own.id == response_id, self._there(tenant))
            .cte(recursive=True)
        )
        chain = chain.union_all(
            select(*columns, chain.c.depth + 1).where(
                own.id == chain.c.previous_id, self._there(tenant), chain.c.depth < CHAIN_MAX
            )
        )
        query = select(chain.c.previous_id, chain.c["items"], chain.c.output)
        return connection.execute(query.order_by(chain.c.depth.desc())).mappings().all()

    def _there(self, tenant: str) -> ColumnElement[bool]:
        return (RESPONSES.c.tenant == tenant) & self._alive()

    def _alive(self) -> ColumnElement[bool]:
        expires = RESPONSES.c.expires_s
        return or_(expires.is_(None), expires > self._wall_s())

    def _columns(self, record: ResponseRecord) -> dict[str, Any]:
        body = {name: value for name, value in record.body.items() if name != "output"}
        return {
            "id": record.id,
            "tenant": record.tenant,
            "created_s": record.created_s,
            "expires_s": record.expires_s,
            "status": record.status,
            "background": record.background,
            "previous_id": record.previous_id,
            "conversation": record.conversation,
            "body": body,
            "items": record.items,
            "output": record.body["output"],
            "request": record.request,
            "owner": self._owner if record.status in _UNFINISHED else None,
        }


def not_found(response_id: str) -> NotFound:
    """In the words of the API."""
    return NotFound(f"Response with id {response_id[:80]!r} not found.", code=None)


def _record(row: RowMapping) -> ResponseRecord:
    return ResponseRecord(
        id=row["id"],
        tenant=row["tenant"],
        created_s=row["created_s"],
        expires_s=row["expires_s"],
        body={**row["body"], "output": row["output"]},
        items=tuple(row["items"]),
        previous_id=row["previous_id"],
        conversation=row["conversation"],
        background=row["background"],
        request=row["request"],
    )
