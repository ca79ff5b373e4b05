"""What a tenant's erasures and legal hold say of what it keeps.

Each function is a step of a unit of work. On PostgreSQL an erasure, and a hold that is set or
lifted, wait for the end of every work that has asked; on SQLite there is one writer anyway.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, select, update

from serve.core.errors import Conflict
from serve.state import tenancy
from serve.store.tables import REVISIONS, TENANTS

HELD_MESSAGE: Final = (
    "The tenant {tenant} is under a legal hold: nothing of it is erased until the hold is lifted "
    "(inhouse tenants lift)."
)


_STANDING: Final = (
    select(TENANTS.c.erasures, TENANTS.c.held_s, TENANTS.c.removed_s)
    .where(TENANTS.c.name == bindparam("tenant"))
    .with_for_update(read=True)
)
"""Built once: every write asks."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How often the tenant has been erased, since when it is held, and when it was removed."""

    erasures: int = 0
    held_s: float | None = None
    removed_s: float | None = None


def standing_of(connection: Connection, tenant: str) -> Standing:
    """As it is until the end of this transaction."""
    row = connection.execute(_STANDING, {"tenant": tenant}).one_or_none()
    return Standing() if row is None else Standing(*row)


def admit(connection: Connection, tenant: str, begun: int | None = None) -> None:
    """Let something new be kept. `begun`: the erasures that were known when its request came.

    Raises Conflict where the tenant has been erased since, or removed.
    """
    now = standing_of(connection, tenant)
    if now.removed_s is not None or begun not in (None, now.erasures):
        raise Conflict(
            "What this tenant keeps was erased while the request was being answered, so the "
            "answer is not kept.",
            code="tenant_erased",
        )


def refuse_held(connection: Connection, tenant: str) -> None:
    """Raises Conflict for a tenant of which nothing may be destroyed."""
    if standing_of(connection, tenant).held_s is not None:
        raise Conflict(HELD_MESSAGE.format(tenant=tenant), param="tenant", code="legal_hold")


@dataclass(frozen=True, slots=True)
class Taken:
    """How many a client deleted; `destroyed`: they are gone, and not only hidden."""

    count: int
    destroyed: bool


def take_away(
    connection: Connection, table: Table, which: ColumnElement[bool], tenant: str, now_s: float
) -> Taken:
    """Delete these for their client.

    Under a hold they stay, expired: no client finds them, and nothing that expired is removed
    before the hold is lifted.
    """
    if standing_of(connection, tenant).held_s is None:
        return Taken(connection.execute(delete(table).where(which)).rowcount, destroyed=True)
    hidden = update(table).where(which).values(expires_s=now_s)
    return Taken(connection.execute(hidden).rowcount, destroyed=False)


def freeze_holds(connection: Connection) -> None:
    """No hold is set or lifted before the end of this transaction."""
    query = select(REVISIONS.c.number).where(REVISIONS.c.name == tenancy.DIRECTORY)
    connection.execute(query.with_for_update(read=True))


def not_held(table: Table) -> ColumnElement[bool]:
    """Rows of tenants without a hold."""
    held = select(TENANTS.c.name).where(TENANTS.c.held_s.is_not(None))
    return table.c.tenant.not_in(held)
