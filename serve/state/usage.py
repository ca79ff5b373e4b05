"""The records of what was used: added once each, summed for budgets, grouped for reports."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, func, select, tuple_

from serve.core.errors import NotFound
from serve.core.ledger import Settled
from serve.store.adding import adding
from serve.store.database import Database
from serve.store.tables import USAGE_RECORDS, USAGE_TOTALS

DIMENSIONS: Final = ("tenant", "key", "model", "endpoint", "tier", "outcome", "day")
COUNTS: Final = ("requests", "prompt", "cached", "completion", "reasoning", "cost_nano", "unpriced")
_COLUMNS: Final = USAGE_RECORDS.c


@dataclass(frozen=True, slots=True)
class Asked:
    """Which records a report is of; days are counted from 1970-01-01, the last is included."""

    first_day: int
    last_day: int
    tenant: str | None = None


class UsageRecords:
    """The records of one database. See `serve.metering.books.Books`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, records: Sequence[Settled]) -> None:
        """Add those that are not there yet, and their tokens and prices to the sums."""
        rows = [_row(one) for one in records]
        await self._database.write(lambda connection: _add(connection, rows))

    async def sync(self) -> None:
        """What was added is on the disk when this returns."""
        await self._database.sync()

    async def totals(self, since_day: int) -> Iterable[tuple[str, int, int, int]]:
        """Tenant, day, tokens and price, for each day from this one on."""
        totals = USAGE_TOTALS.c
        found = select(totals.tenant, totals.day, totals.tokens, totals.cost_nano)
        query = found.where(totals.day >= since_day)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [(row.tenant, row.day, row.tokens, row.cost_nano) for row in rows]

    async def grouped(self, by: Sequence[str], asked: Asked) -> list[dict[str, Any]]:
        """COUNTS for each combination of these DIMENSIONS, in their order."""
        groups = [_COLUMNS[name] for name in by]
        query = select(*groups, *_sums()).where(*_of(asked)).group_by(*groups).order_by(*groups)
        rows = await self._database.read(
            lambda connection: connection.execute(query).mappings().all()
        )
        # PostgreSQL's sums of whole numbers are decimals.
        return [
            {**{name: row[name] for name in by}, **{name: int(row[name] or 0) for name in COUNTS}}
            for row in rows
        ]

    async def of_request(self, tenant: str, request_id: str) -> list[dict[str, Any]]:
        """The records of one request, as they were made. Raises NotFound."""
        query = (
            select(USAGE_RECORDS)
            .where(_COLUMNS.request_id == request_id, _COLUMNS.tenant == tenant)
            .order_by(_COLUMNS.run)
        )
        rows: Sequence[RowMapping] = await self._database.read(
            lambda connection: connection.execute(query).mappings().all()
        )
        if not rows:
            raise NotFound(f"No request {request_id[:80]!r} was served here.", code="not_found")
        return [dict(row) for row in rows]


def _sums() -> list[ColumnElement[Any]]:
    columns = ("prompt", "cached", "completion", "reasoning", "cost_nano")
    return [
        func.count().label("requests"),
        *(func.sum(_COLUMNS[name]).label(name) for name in columns),
        (func.count() - func.count(_COLUMNS.cost_nano)).label("unpriced"),
    ]


def _of(asked: Asked) -> list[ColumnElement[bool]]:
    wanted = [_COLUMNS.day >= asked.first_day, _COLUMNS.day <= asked.last_day]
    if asked.tenant is not None:
        wanted.append(_COLUMNS.tenant == asked.tenant)
    return wanted


def _add(connection: Connection, rows: list[dict[str, Any]]) -> None:
    keys = [(row["request_id"], row["run"]) for row in rows]
    key = tuple_(_COLUMNS.request_id, _COLUMNS.run)
    there = {
        (row.request_id, row.run)
        for row in connection.execute(
            select(_COLUMNS.request_id, _COLUMNS.run).where(key.in_(keys))
        )
    }
    new = [row for row in rows if (row["request_id"], row["run"]) not in there]
    if not new:
        return
    connection.execute(USAGE_RECORDS.insert(), new)
    connection.execute(adding(connection, USAGE_TOTALS, "tokens", "cost_nano"), _totals(new))


def _totals(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In one order always, so that servers that add at once do not wait for each other's."""
    sums: dict[tuple[str, int], list[int]] = {}
    for row in rows:
        at = sums.setdefault((row["tenant"], row["day"]), [0, 0])
        at[0] += row["prompt"] + row["completion"]
        at[1] += row["cost_nano"] or 0
    return [
        {"tenant": tenant, "day": day, "tokens": tokens, "cost_nano": cost_nano}
        for (tenant, day), (tokens, cost_nano) in sorted(sums.items())
    ]


def _row(record: Settled) -> dict[str, Any]:
    opened, closed = record.opened, record.closed
    usage = closed.usage
    return {
        "request_id": opened.request_id[:80],
        "run": record.run,
        "day": record.day,
        "received_s": opened.received_s,
        "tenant": opened.tenant,
        "key": opened.key,
        "endpoint": opened.endpoint,
        "model": closed.model[:256],
        "fingerprint": closed.fingerprint[:64],
        "tier": opened.tier[:16],
        "outcome": closed.outcome[:32],
        "finish": closed.finish[:64],
        "prompt": usage.prompt,
        "cached": usage.cached,
        "completion": usage.completion,
        "reasoning": usage.reasoning,
        "queue_s": closed.queue_s,
        "ttft_s": closed.ttft_s,
        "duration_s": closed.duration_s,
        "cost_nano": record.cost_nano,
    }
