"""Legal holds of tenants, with their reasons: those that stand, and those that stood.

Each function is one step of a unit of work. While a hold stands nothing of its tenant is
destroyed (`serve.state.custody`).
"""

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from serve.core.errors import Conflict
from serve.state import tenancy
from serve.store.tables import LEGAL_HOLDS, TENANTS


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold. Times are Unix seconds; `lifted_s` is None while it stands."""

    tenant: str
    reason: str
    set_s: float
    lifted_s: float | None = None
    lifted_reason: str | None = None


def of_tenant(connection: Connection, name: str) -> list[Hold]:
    """The latest first. Raises NotFound for a tenant that never was."""
    tenancy.known(connection, name)
    own = LEGAL_HOLDS.c
    columns = (own.tenant, own.reason, own.set_s, own.lifted_s, own.lifted_reason)
    query = select(*columns).where(own.tenant == name).order_by(own.seq.desc())
    return [Hold(*row) for row in connection.execute(query)]


def put_on(connection: Connection, name: str, reason: str, now_s: float) -> Hold:
    """Raises NotFound, and Conflict where one stands already."""
    tenancy.known(connection, name)
    free = update(TENANTS).where(TENANTS.c.name == name, TENANTS.c.held_s.is_(None))
    if not connection.execute(free.values(held_s=now_s)).rowcount:
        raise Conflict(f"The tenant {name} is under a legal hold already.", param="tenant")
    connection.execute(insert(LEGAL_HOLDS).values(tenant=name, reason=reason, set_s=now_s))
    return of_tenant(connection, name)[0]


def lift(connection: Connection, name: str, reason: str, now_s: float) -> Hold:
    """Raises NotFound, and Conflict where none stands."""
    tenancy.known(connection, name)
    held = update(TENANTS).where(TENANTS.c.name == name, TENANTS.c.held_s.is_not(None))
    if not connection.execute(held.values(held_s=None)).rowcount:
        raise Conflict(f"The tenant {name} is under no legal hold.", param="tenant")
    own = LEGAL_HOLDS.c
    standing = update(LEGAL_HOLDS).where(own.tenant == name, own.lifted_s.is_(None))
    connection.execute(standing.values(lifted_s=now_s, lifted_reason=reason))
    return of_tenant(connection, name)[0]
