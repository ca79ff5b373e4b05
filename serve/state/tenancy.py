"""Rows of tenants and of keys: each function is one step of a unit of work on the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from serve.core.errors import Conflict, InvalidRequest, NotFound
from serve.core.grant import Grant
from serve.core.roster import DEFAULT_TENANT, Key, Roster, Tenant
from serve.store.tables import API_KEYS, REVISIONS, SECRETS, TENANTS

DIRECTORY: Final = "directory"
"""The revision that counts changes of tenants and keys."""
SALT: Final = "cache_salt"
"""The secret that cache salts are derived from."""
KEY_PREFIX: Final = "key"
TENANTS_MAX: Final = 10_000
KEYS_MAX: Final = 10_000

_KEYS: Final = API_KEYS.c
_TENANTS: Final = TENANTS.c


@dataclass(frozen=True, slots=True)
class KeyRef:
    """A key as an operator names it: by its name, in its tenant, or by its id."""

    word: str
    tenant: str = DEFAULT_TENANT

    @property
    def is_id(self) -> bool:
        return self.word.startswith(f"{KEY_PREFIX}_")

    def __str__(self) -> str:
        return self.word if self.is_id else f"{self.word} of the tenant {self.tenant}"


def version_of(connection: Connection) -> int:
    """How often tenants or keys have been changed."""
    query = select(REVISIONS.c.number).where(REVISIONS.c.name == DIRECTORY)
    return int(connection.execute(query).scalar_one())


def roster_of(connection: Connection) -> Roster:
    """All of them. The version is read first: what changes meanwhile is read again."""
    version = version_of(connection)
    tenants = {one.name: one for one in tenants_of(connection)}
    secret = select(SECRETS.c.value).where(SECRETS.c.name == SALT)
    return Roster(
        version, tenants, tuple(keys_of(connection)), connection.execute(secret).scalar_one()
    )


def changing(connection: Connection) -> None:
    """Count a change; on PostgreSQL, others wait with theirs until this one is committed."""
    number = REVISIONS.c.number
    connection.execute(
        update(REVISIONS).where(REVISIONS.c.name == DIRECTORY).values({number: number + 1})
    )


def tenants_of(connection: Connection) -> list[Tenant]:
    query = select(TENANTS).where(_TENANTS.removed_s.is_(None)).order_by(_TENANTS.name)
    return [_tenant(row) for row in connection.execute(query)]


def tenant_named(connection: Connection, name: str) -> Tenant:
    """Raises NotFound."""
    query = select(TENANTS).where(_TENANTS.name == name, _TENANTS.removed_s.is_(None))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no tenant {name[:80]!r}; `inhouse tenants add` makes one.",
            param="tenant", code="tenant_not_found",
        )  # fmt: skip
    return _tenant(row)


def add_tenant(connection: Connection, tenant: Tenant) -> None:
    """Raises Conflict where the name is taken, or was."""
    query = select(_TENANTS.removed_s).where(_TENANTS.name == tenant.name)
    there = connection.execute(query).one_or_none()
    if there is not None:
        known = "is" if there.removed_s is None else "was"
        never = "" if there.removed_s is None else ", and names of tenants are not given twice"
        raise Conflict(f"There {known} a tenant {tenant.name} already{never}.", param="name")
    _refuse_more(connection, TENANTS.c.name, TENANTS_MAX, "tenants")
    connection.execute(
        insert(TENANTS).values(
            name=tenant.name,
            created_s=tenant.created_s,
            limits=dict(tenant.limits),
            settings=dict(tenant.settings),
        )
    )


def set_tenant(connection: Connection, name: str, changes: dict[str, Any]) -> Tenant:
    """Put these columns in place of what was there. Raises NotFound."""
    tenant_named(connection, name)
    if changes:
        connection.execute(update(TENANTS).where(_TENANTS.name == name).values(changes))
    return tenant_named(connection, name)


def remove_tenant(connection: Connection, name: str, now_s: float) -> Tenant:
    """Its keys are gone, its name is kept. Raises NotFound, and Conflict for the default one."""
    tenant = tenant_named(connection, name)
    if name == DEFAULT_TENANT:
        raise Conflict("The tenant 'default' is everyone's who names none; it cannot be removed.")
    connection.execute(delete(API_KEYS).where(_KEYS.tenant == name))
    connection.execute(
        update(TENANTS).where(_TENANTS.name == name).values(removed_s=now_s, limits={}, settings={})
    )
    return tenant


def known(connection: Connection, name: str) -> None:
    """Raises NotFound for a tenant that never was; one that was removed will do."""
    if connection.execute(select(_TENANTS.name).where(_TENANTS.name == name)).first() is None:
        tenant_named(connection, name)


def erasing(connection: Connection, name: str) -> None:
    """Count an erasure: what was begun before it is not kept after it."""
    counted = update(TENANTS).where(_TENANTS.name == name)
    connection.execute(counted.values(erasures=_TENANTS.erasures + 1))


def keys_of(connection: Connection, tenant: str | None = None) -> list[Key]:
    """All keys, or one tenant's, in the order of their making."""
    query = select(API_KEYS).order_by(_KEYS.created_s, _KEYS.id)
    if tenant is not None:
        query = query.where(_KEYS.tenant == tenant)
    return [_key(row) for row in connection.execute(query)]


def keys_called(connection: Connection, ref: KeyRef) -> list[Key]:
    """Those that are meant, the oldest first. Raises NotFound."""
    wanted = [_KEYS.id == ref.word]
    if not ref.is_id:
        wanted = [_KEYS.name == ref.word, _KEYS.tenant == ref.tenant]
    query = select(API_KEYS).where(*wanted).order_by(_KEYS.created_s, _KEYS.id)
    found = [_key(row) for row in connection.execute(query)]
    if not found:
        raise NotFound(f"There is no key {ref}; `inhouse keys list` shows them.", param="key",
                       code="key_not_found")  # fmt: skip
    return found


def add_key(connection: Connection, key: Key, *, again: bool = False) -> None:
    """Raises NotFound for its tenant, and Conflict where a good key has its name already.

    `again`: it takes the place of that one.
    """
    tenant_named(connection, key.tenant)
    if key.name.startswith(f"{KEY_PREFIX}_"):
        raise InvalidRequest("Names that begin with 'key_' are for ids.", param="name")
    if not again and any(
        one.name == key.name and one.is_good(key.created_s)
        for one in keys_of(connection, key.tenant)
    ):
        raise Conflict(
            f"The tenant {key.tenant} has a key named {key.name} already: choose another name, "
            "or rotate or revoke that one.",
            param="name",
        )
    _refuse_more(connection, API_KEYS.c.id, KEYS_MAX, "keys")
    connection.execute(
        insert(API_KEYS).values(
            id=key.id,
            tenant=key.tenant,
            name=key.name,
            sha256=key.sha256,
            created_s=key.created_s,
            expires_s=key.expires_s,
            scopes=_scopes(key.grant),
        )
    )


def revoke(connection: Connection, keys: Sequence[Key], now_s: float) -> None:
    """From now on they are good for nothing; those that were revoked before keep their time."""
    ids = [key.id for key in keys if key.revoked_s is None]
    connection.execute(update(API_KEYS).where(_KEYS.id.in_(ids)).values(revoked_s=now_s))


def expire(connection: Connection, key: Key, expires_s: float) -> None:
    """It ends then, or before."""
    if key.expires_s is None or key.expires_s > expires_s:
        connection.execute(update(API_KEYS).where(_KEYS.id == key.id).values(expires_s=expires_s))


def remove(connection: Connection, keys: Sequence[Key]) -> None:
    """As if they had never been."""
    connection.execute(delete(API_KEYS).where(_KEYS.id.in_([key.id for key in keys])))


def new_key_id() -> str:
    return f"{KEY_PREFIX}_{token_hex(8)}"


def _refuse_more(connection: Connection, column: Any, most: int, what: str) -> None:
    there = connection.execute(select(func.count(column))).scalar_one()
    if there >= most:
        raise Conflict(f"There are {most} {what}, the most a site may have; remove some.")


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(row.name, row.created_s, row.limits, row.settings, row.erasures, row.held_s)


def _key(row: Row[Any]) -> Key:
    said = row.scopes
    models, endpoints = said.get("models"), said.get("endpoints")
    grant = Grant(
        None if models is None else tuple(models),
        None if endpoints is None else frozenset(endpoints),
        bool(said.get("admin")),
    )
    return Key(
        row.id, row.tenant, row.name, row.sha256, row.created_s, row.expires_s, row.revoked_s,
        grant,
    )  # fmt: skip


def _scopes(grant: Grant) -> dict[str, Any]:
    return {
        "models": None if grant.models is None else list(grant.models),
        "endpoints": None if grant.endpoints is None else sorted(grant.endpoints),
        "admin": grant.admin,
    }
