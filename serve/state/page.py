"""One page of a list, in the order in which things were made (OpenAI API reference, pagination)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, select

from serve.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Cut:
    """Which page: up to `limit` of those that come after or before the one with this id."""

    limit: int = 20
    ascending: bool = False
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """`has_more`: others follow in the list's order."""

    rows: Sequence[RowMapping]
    has_more: bool


def page_of(connection: Connection, table: Table, query: Select[Any], cut: Cut) -> Page:
    """The page that `cut` means of the query's rows, which are the table's.

    Raises InvalidRequest where the id it starts from is none of them.
    """
    seq = table.c.seq
    for name, forwards in (("after", True), ("before", False)):
        start = getattr(cut, name)
        if start is not None:
            at = _place(connection, table, query, start, name)
            query = query.where(seq > at if forwards is cut.ascending else seq < at)
    order = seq.asc() if cut.ascending else seq.desc()
    rows = connection.execute(query.order_by(order).limit(cut.limit + 1)).mappings().all()
    return Page(rows[: cut.limit], len(rows) > cut.limit)


def _place(connection: Connection, table: Table, query: Select[Any], start: str, name: str) -> int:
    among = query.where(table.c.id == start).subquery()
    place: int | None = connection.execute(select(among.c.seq)).scalar()
    if place is None:
        raise InvalidRequest(f"No item with id {start[:80]!r} is in this list.", param=name)
    return place
