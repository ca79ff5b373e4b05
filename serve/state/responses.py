"""Stored responses, the chains they make, and what background ones have streamed."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    delete,
    literal,
    or_,
    select,
)

from serve.core.errors import NotFound
from serve.state.recent import Recent
from serve.state.records import JSON, Event, ResponseRecord
from serve.store.database import Database
from serve.store.tables import RESPONSE_EVENTS, RESPONSES

CHAIN_MAX: Final = 10_000
"""Responses in one chain; a longer one is refused as if its beginning were gone."""

_UNFINISHED: Final = ("queued", "in_progress")


class Responses:
    """Responses by tenant: another tenant's, a deleted and an expired one do not exist.

    `wall_s` is the time that expiry is told by.
    """

    def __init__(
        self,
        database: Database,
        wall_s: Callable[[], float] = time.time,
        recent: Recent | None = None,
    ) -> None:
        self._database = database
        self._wall_s = wall_s
        self._recent = recent or Recent(0)

    async def put(self, record: ResponseRecord) -> None:
        """Keep it; one that is there under this id is replaced."""
        values = _columns(record)

        def work(connection: Connection) -> None:
            # Others are written once, when they have ended.
            if record.background:
                same = RESPONSES.update().where(RESPONSES.c.id == record.id)
                if connection.execute(same.values(values)).rowcount:
                    return
            connection.execute(RESPONSES.insert().values(values))

        await self._database.write(work)
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
        gone = delete(RESPONSES).where(RESPONSES.c.id == response_id, self._there(tenant))
        if not await self._database.write(lambda c: c.execute(gone).rowcount):
            raise not_found(response_id)
        self._recent.forget(response_id)

    async def append_events(self, response_id: str, events: Sequence[Event]) -> None:
        """Keep what was streamed; nothing is kept of a response that has been deleted."""
        rows = [
            {"response": response_id, "sequence_number": e.sequence_number, "frame": e.frame}
            for e in events
        ]

        def work(connection: Connection) -> None:
            known = select(RESPONSES.c.id).where(RESPONSES.c.id == response_id)
            if connection.execute(known).first() is not None:
                connection.execute(RESPONSE_EVENTS.insert(), rows)

        if rows:
            await self._database.write(work)

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

    async def unfinished(self) -> list[ResponseRecord]:
        """Those that a server which ended has left queued or in progress."""
        query = select(RESPONSES).where(RESPONSES.c.status.in_(_UNFINISHED))
        rows = await self._database.read(lambda c: c.execute(query).mappings().all())
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
        expires = RESPONSES.c.expires_s
        alive = or_(expires.is_(None), expires > self._wall_s())
        return (RESPONSES.c.tenant == tenant) & alive


def not_found(response_id: str) -> NotFound:
    """In the words of the API."""
    return NotFound(f"Response with id {response_id[:80]!r} not found.", code=None)


def _columns(record: ResponseRecord) -> dict[str, Any]:
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
    }


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
