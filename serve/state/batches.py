"""Batches, their lines, and what has come of each: all that a server needs to go on with them."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    RowMapping,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from serve.core.errors import NotFound, Overloaded
from serve.state import custody, files
from serve.state.files import FileRecord
from serve.state.gateways import ALONE, orphaned, take_over
from serve.state.page import Cut, page_of
from serve.state.records import JSON
from serve.store.database import Database
from serve.store.tables import BATCH_LINES, BATCHES

UNFINISHED: Final = ("validating", "in_progress", "finalizing", "cancelling")

_LINES_AT_ONCE: Final = 1000
"""Rows of one statement, and of one page."""


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch. `key` is the name of the key that asked; times are Unix seconds.

    `body` is the batch object without its status and its counts.
    """

    id: str
    tenant: str
    created_s: float
    expires_s: float | None
    status: str
    key: str
    deadline_s: float
    output_keep_s: float | None
    total: int
    completed: int
    failed: int
    body: JSON

    @property
    def shown(self) -> JSON:
        """The batch object, as clients see it."""
        counts = {"total": self.total, "completed": self.completed, "failed": self.failed}
        return {**self.body, "status": self.status, "request_counts": counts}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input file: its number from 1, and the bytes of the file that it is."""

    number: int
    custom_id: str
    place: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a line: `result` is its line in a file of results, None where it was not run."""

    number: int
    custom_id: str
    failed: bool
    result: bytes | None


@dataclass(frozen=True, slots=True)
class BatchPage:
    """`has_more`: others follow in the list's order."""

    batches: tuple[BatchRecord, ...]
    has_more: bool


class Batches:
    """Batches; for clients by tenant: another tenant's does not exist.

    `ttl_s` is how long a tenant's are kept after their end, None for ever; `owner` the gateway
    that works on those which are handed in here.
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

    async def add(self, record: BatchRecord, unfinished_max: int) -> None:
        """Keep a new one. Raises Overloaded where its tenant has so many unfinished already, and
        Conflict where it has been removed."""
        own = BATCHES.c
        under_way = select(func.count()).where(
            own.tenant == record.tenant, own.status.in_(UNFINISHED)
        )

        def work(connection: Connection) -> None:
            custody.admit(connection, record.tenant)
            if connection.execute(under_way).scalar_one() >= unfinished_max:
                raise Overloaded(
                    f"{unfinished_max} of your batches are unfinished (batches.unfinished); wait "
                    "for one to end, or cancel one",
                    retry_after_s=60,
                )
            values = {name: getattr(record, name) for name in BatchRecord.__slots__}
            connection.execute(BATCHES.insert().values(owner=self._owner, **values))

        await self._database.write(work)

    async def get(self, tenant: str, batch_id: str) -> BatchRecord:
        """Raises NotFound."""
        query = select(BATCHES).where(BATCHES.c.id == batch_id, self._there(tenant))
        row = await self._database.read(lambda c: c.execute(query).mappings().first())
        if row is None:
            raise batch_not_found(batch_id)
        return _record(row)

    async def find(self, batch_id: str) -> BatchRecord:
        """Whosever it is. Raises NotFound."""
        query = select(BATCHES).where(BATCHES.c.id == batch_id)
        row = await self._database.read(lambda c: c.execute(query).mappings().first())
        if row is None:
            raise batch_not_found(batch_id)
        return _record(row)

    async def page(self, tenant: str, cut: Cut) -> BatchPage:
        """A page of the tenant's. Raises InvalidRequest for a start that is none of them."""
        query = select(BATCHES).where(self._there(tenant))
        page = await self._database.read(lambda c: page_of(c, BATCHES, query, cut))
        return BatchPage(tuple(_record(row) for row in page.rows), page.has_more)

    async def latest(self, limit: int) -> list[BatchRecord]:
        """Everyone's unfinished ones, and the latest that have ended; newest first."""
        own = BATCHES.c
        newest = select(BATCHES).order_by(own.seq.desc())
        queries = (
            newest.where(own.status.in_(UNFINISHED)).limit(limit),
            newest.where(own.status.not_in(UNFINISHED)).limit(limit),
        )

        def work(connection: Connection) -> list[RowMapping]:
            return [row for one in queries for row in connection.execute(one).mappings()]

        rows = await self._database.read(work)
        return [_record(row) for row in sorted(rows, key=lambda row: -row["seq"])][:limit]

    @property
    def shared(self) -> bool:
        """Whether other gateways may run batches of the same database."""
        return not self._database.exclusive

    async def orphans(self) -> list[tuple[str, str]]:
        """Unfinished ones of gateways that are not there any more, each with that one's id."""
        return await self._database.read(lambda c: orphaned(c, BATCHES))

    async def take_over(self, batch_id: str, former: str) -> BatchRecord | None:
        """Own it from now on; None where another gateway was first, or it is gone."""
        query = select(BATCHES).where(BATCHES.c.id == batch_id)

        def work(connection: Connection) -> RowMapping | None:
            if not take_over(connection, BATCHES, batch_id, former, self._owner):
                return None
            return connection.execute(query).mappings().one()

        row = await self._database.write(work)
        return None if row is None else _record(row)

    async def not_mine(self, batch_ids: Collection[str]) -> dict[str, str]:
        """Those of these that another gateway owns, or that have ended, with their status."""
        own = BATCHES.c
        taken = or_(own.owner.is_(None), own.owner != self._owner)
        query = select(own.id, own.status).where(own.id.in_(batch_ids), taken)
        rows = await self._database.read(lambda c: c.execute(query).all())
        return {row.id: row.status for row in rows}

    async def cancelling(self, batch_ids: Collection[str]) -> set[str]:
        """Those of these that are to be cancelled."""
        own = BATCHES.c
        query = select(own.id).where(own.id.in_(batch_ids), own.status == "cancelling")
        return set(await self._database.read(lambda c: list(c.execute(query).scalars())))

    async def move(
        self,
        batch_id: str,
        sources: Collection[str],
        to: str,
        *,
        total: int | None = None,
        changes: JSON | None = None,
        results: Sequence[FileRecord] = (),
    ) -> BatchRecord | None:
        """Bring it from one of these states to another; None where it is in no such state.

        `changes` are made to its body, and the files of results are seen from the same moment.
        Raises NotFound.
        """

        def work(connection: Connection) -> BatchRecord | None:
            row = _locked(connection, batch_id)
            if row["status"] not in sources:
                return None
            values: dict[str, Any] = {"status": to, "body": {**row["body"], **(changes or {})}}
            if total is not None:
                values["total"] = total
            if to not in UNFINISHED:
                values |= {"expires_s": self._expiry(row["tenant"]), "owner": None}
            same = update(BATCHES).where(BATCHES.c.id == batch_id)
            connection.execute(same.values(values))
            for one in results:
                files.insert(connection, one)
            return _record({**row, **values})

        return await self._database.write(work)

    async def put_lines(self, batch_id: str, lines: Sequence[Line]) -> None:
        """Know these as its lines, and no others."""
        gone = delete(BATCH_LINES).where(BATCH_LINES.c.batch == batch_id)
        await self._database.write(lambda c: c.execute(gone))
        for start in range(0, len(lines), _LINES_AT_ONCE):
            rows = [
                {
                    "batch": batch_id,
                    "line": line.number,
                    "custom_id": line.custom_id,
                    "place": line.place,
                    "size_bytes": line.size_bytes,
                }
                for line in lines[start : start + _LINES_AT_ONCE]
            ]

            def work(connection: Connection, rows: list[dict[str, Any]] = rows) -> None:
                _locked(connection, batch_id)
                connection.execute(insert(BATCH_LINES), rows)

            await self._database.write(work)

    async def to_run(self, batch_id: str, after: int, limit: int = 256) -> list[Line]:
        """Lines with a number above `after` that have no result, in order."""
        own = BATCH_LINES.c
        query = (
            select(own.line, own.custom_id, own.place, own.size_bytes)
            .where(own.batch == batch_id, own.line > after, own.result.is_(None))
            .order_by(own.line)
            .limit(limit)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [Line(*row) for row in rows]

    async def settle(self, batch_id: str, number: int, *, failed: bool, result: bytes) -> bool:
        """Keep what came of a line and count it; False where that is known already."""
        own = BATCH_LINES.c
        open_line = update(BATCH_LINES).where(
            own.batch == batch_id, own.line == number, own.result.is_(None)
        )
        counted = BATCHES.c.failed if failed else BATCHES.c.completed
        count = update(BATCHES).where(BATCHES.c.id == batch_id).values({counted: counted + 1})

        def work(connection: Connection) -> bool:
            if not connection.execute(open_line.values(failed=failed, result=result)).rowcount:
                return False
            connection.execute(count)
            return True

        return await self._database.write(work)

    async def results(self, batch_id: str, after: int) -> list[Result]:
        """The next lines with a number above `after`, whatever came of them, in order."""
        own = BATCH_LINES.c
        query = (
            select(own.line, own.custom_id, own.failed, own.result)
            .where(own.batch == batch_id, own.line > after)
            .order_by(own.line)
            .limit(_LINES_AT_ONCE)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [Result(row[0], row[1], bool(row[2]), row[3]) for row in rows]

    async def forget_lines(self) -> None:
        """Free the room of the lines of all batches that have ended and are not held."""
        own = BATCH_LINES.c
        ended = select(BATCHES.c.id).where(
            BATCHES.c.status.not_in(UNFINISHED), custody.not_held(BATCHES)
        )
        with_lines = ended.where(select(own.line).where(own.batch == BATCHES.c.id).exists())
        for batch_id in await self._database.read(lambda c: list(c.execute(with_lines).scalars())):
            some = select(own.line).where(own.batch == batch_id).order_by(own.line)
            gone = delete(BATCH_LINES).where(
                own.batch == batch_id, own.line.in_(some.limit(_LINES_AT_ONCE))
            )
            while await self._removed(batch_id, gone):
                pass

    async def is_held(self, batch_id: str) -> bool:
        """Whether what it was made of must stay after its end. False for one that is gone."""
        held = select(BATCHES.c.id).where(BATCHES.c.id == batch_id, ~custody.not_held(BATCHES))
        return await self._database.read(lambda c: c.execute(held).first()) is not None

    async def _removed(self, batch_id: str, gone: Delete) -> int:
        free = select(BATCHES.c.id).where(BATCHES.c.id == batch_id, custody.not_held(BATCHES))

        def work(connection: Connection) -> int:
            custody.freeze_holds(connection)
            if connection.execute(free).first() is None:
                return 0
            return connection.execute(gone).rowcount

        return await self._database.write(work)

    def _expiry(self, tenant: str) -> float | None:
        ttl_s = self._ttl_s(tenant)
        return None if ttl_s is None else self._wall_s() + ttl_s

    def _there(self, tenant: str) -> ColumnElement[bool]:
        expires = BATCHES.c.expires_s
        alive = or_(expires.is_(None), expires > self._wall_s())
        return (BATCHES.c.tenant == tenant) & alive


def batch_not_found(batch_id: str) -> NotFound:
    """In the words of the API."""
    return NotFound(f"No batch found with id '{batch_id[:80]}'.", code=None)


def _locked(connection: Connection, batch_id: str) -> RowMapping:
    query = select(BATCHES).where(BATCHES.c.id == batch_id).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        raise batch_not_found(batch_id)
    return row


def _record(row: Any) -> BatchRecord:
    return BatchRecord(**{name: row[name] for name in BatchRecord.__slots__})
