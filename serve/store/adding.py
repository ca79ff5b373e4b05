"""Inserts that add to the row that is there, on either database."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Insert, Table

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite


def adding(connection: Connection, table: Table, *columns: str) -> Insert:
    """An insert by primary key: where a row of that key is there, these columns add up."""
    statement = _insert(connection, table)
    there, new = table.c, statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={name: there[name] + new[name] for name in columns},
    )


def _insert(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    # PostgreSQL's dialect brings all its drivers, a tenth of the time to start.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - see above

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415 - as above

    return sqlite.insert(table)
