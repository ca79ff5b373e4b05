"""Tenants and keys: a copy in memory that requests are held against, and the changes to it.

Every change counts a number up in the database. This server looks at its own changes at once, and
at the number twice a second, so that what another gateway or a command has changed counts here
within a second. Where the database cannot be reached the copy stays as it is.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection

from serve.core.errors import Conflict, InvalidRequest, StorageUnavailable
from serve.core.roster import Key, Roster, Tenant
from serve.settings.keys import digest_of, new_key
from serve.settings.limits import NO_LIMITS, Limits, limits_from
from serve.settings.tenants import Scopes, TenantTerms
from serve.state import custody, holds, tenancy
from serve.state.holds import Hold
from serve.state.tenancy import KeyRef
from serve.store.database import Database

log = logging.getLogger("inhouse.state")

T = TypeVar("T")
LOOK_EVERY_S: Final = 0.5
_NO_LIMITS: Final[Mapping[str, Any]] = {}


class Directory:
    """The tenants and keys of one database.

    `now_s` is the time that keys expire by, `everyone` the site's limits under each tenant's own.
    """

    def __init__(
        self,
        database: Database,
        now_s: Callable[[], float],
        everyone: Callable[[], Limits] = lambda: NO_LIMITS,
    ) -> None:
        self._database = database
        self.now_s = now_s
        self._everyone = everyone
        self.roster = Roster()
        self._told: list[Callable[[Roster], None]] = []
        self._reading = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    def subscribe(self, told: Callable[[Roster], None]) -> None:
        """Have this called with each new copy."""
        self._told.append(told)

    def limits_of(self, tenant: str) -> Mapping[str, Any]:
        """See `serve.admission.tenants.OwnLimits`."""
        known = self.roster.tenants.get(tenant)
        return _NO_LIMITS if known is None else known.limits

    async def open(self) -> None:
        """Read all of it, and keep looking. Raises StorageUnavailable."""
        await self.refresh()
        self._looking = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def refresh(self) -> None:
        """Look at what the database has now. Raises StorageUnavailable."""
        async with self._reading:
            roster = await self._database.read(tenancy.roster_of)
            self.roster = _alike(roster, self.roster)
            for told in self._told:
                told(self.roster)

    async def _keep_looking(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if await self._database.read(tenancy.version_of) != self.roster.version:
                    await self.refresh()
                failing = False
            except StorageUnavailable as error:
                if not failing:
                    log.warning("keys are known as they were: %s", error.message)
                failing = True
            except Exception:
                if not failing:
                    log.exception("keys are known as they were")
                failing = True

    # Tenants

    async def tenants(self) -> list[Tenant]:
        return await self._database.read(tenancy.tenants_of)

    async def tenant(self, name: str) -> Tenant:
        """Raises NotFound."""
        return await self._database.read(lambda c: tenancy.tenant_named(c, name))

    async def add_tenant(self, name: str, terms: TenantTerms) -> Tenant:
        """Raises Conflict where the name is taken, or was, and InvalidRequest as `set_tenant`."""
        self._check(terms)
        limits, settings = terms.kept()
        tenant = Tenant(name, self.now_s(), limits, settings)
        await self._change(lambda c: tenancy.add_tenant(c, tenant))
        return tenant

    async def set_tenant(self, name: str, terms: TenantTerms) -> Tenant:
        """Replace its limits, its settings, or both: what of `terms` was said.

        Raises NotFound, and InvalidRequest for limits that do not go with the site's.
        """
        self._check(terms)
        kept = dict(zip(("limits", "settings"), terms.kept(), strict=True))
        changes = {part: kept[part] for part in terms.model_fields_set}
        return await self._change(lambda c: tenancy.set_tenant(c, name, changes))

    async def remove_tenant(self, name: str) -> Tenant:
        """Take its keys away; what is kept for it is `Eraser.erase`'s. Raises NotFound, and
        Conflict for the default one and for one under a legal hold."""

        def work(connection: Connection) -> Tenant:
            custody.refuse_held(connection, name)
            return tenancy.remove_tenant(connection, name, self.now_s())

        return await self._change(work)

    def text_begun(self, tenant: str) -> int | None:
        """The erasures of a tenant that wants its prompts and answers kept; None for others."""
        known = self.roster.tenants.get(tenant)
        return known.erasures if known is not None and known.audit_text else None

    def erasures_of(self, tenant: str) -> int:
        """How often what it keeps has been erased, as far as this server knows."""
        known = self.roster.tenants.get(tenant)
        return 0 if known is None else known.erasures

    async def begin_erasure(self, name: str) -> None:
        """Have nothing kept any more that was begun before. A tenant that was removed will do.

        Raises NotFound, and Conflict for one under a legal hold.
        """

        def work(connection: Connection) -> None:
            tenancy.known(connection, name)
            custody.refuse_held(connection, name)
            tenancy.erasing(connection, name)

        await self._change(work)

    async def hold(self, name: str, reason: str) -> Hold:
        """Put it under a legal hold. Raises NotFound, and Conflict where one stands."""
        return await self._change(lambda c: holds.put_on(c, name, reason, time.time()))

    async def lift(self, name: str, reason: str) -> Hold:
        """End its legal hold. Raises NotFound, and Conflict where none stands."""
        return await self._change(lambda c: holds.lift(c, name, reason, time.time()))

    async def holds(self, name: str) -> list[Hold]:
        """Its legal holds, the latest first. Raises NotFound."""
        return await self._database.read(lambda c: holds.of_tenant(c, name))

    def _check(self, terms: TenantTerms) -> None:
        try:
            limits_from(self._everyone(), terms.kept()[0])
        except ValidationError as error:
            said = error.errors(include_url=False, include_context=False)[0]["msg"]
            raise InvalidRequest(
                f"These limits do not go with the site's (limits.each_tenant): {said}.",
                param="limits",
                code="invalid_value",
            ) from None

    # Keys

    async def keys(self, tenant: str | None = None) -> list[Key]:
        """All, or those of a tenant. Raises NotFound."""

        def work(connection: Connection) -> list[Key]:
            if tenant is not None:
                tenancy.tenant_named(connection, tenant)
            return tenancy.keys_of(connection, tenant)

        return await self._database.read(work)

    async def add_key(
        self, tenant: str, name: str, scopes: Scopes, expires_s: float | None
    ) -> tuple[Key, str]:
        """Make a key; its text is not known again after this.

        Raises NotFound for the tenant, Conflict where the name is taken, and InvalidRequest for a
        time that is over.
        """
        key, text = self._made(tenant, name, expires_s)
        key = replace(key, grant=scopes.grant)
        await self._change(lambda c: tenancy.add_key(c, key))
        return key, text

    async def revoke_key(self, ref: KeyRef) -> list[Key]:
        """End it, and what is being answered to it; all of that name. Raises NotFound."""

        def work(connection: Connection) -> list[Key]:
            keys = tenancy.keys_called(connection, ref)
            tenancy.revoke(connection, keys, self.now_s())
            return tenancy.keys_called(connection, ref)

        return await self._change(work)

    async def rotate_key(
        self, ref: KeyRef, overlap_s: float, expires_s: float | None = None
    ) -> tuple[Key, str]:
        """Make another key of the same name and scopes; the one from before is good for
        `overlap_s` more. Without `expires_s` the new one expires as that one would have.

        Raises NotFound, Conflict where none is good, and InvalidRequest for a time that is over.
        """

        def work(connection: Connection) -> tuple[Key, str]:
            now_s = self.now_s()
            good = [one for one in tenancy.keys_called(connection, ref) if one.is_good(now_s)]
            if not good:
                raise Conflict(f"The key {ref} is not good any more; add another one.")
            old = good[-1]
            until_s = old.expires_s if expires_s is None else expires_s
            key, text = self._made(old.tenant, old.name, until_s)
            key = replace(key, grant=old.grant)
            tenancy.add_key(connection, key, again=True)
            if overlap_s > 0:
                tenancy.expire(connection, old, now_s + overlap_s)
            else:
                tenancy.revoke(connection, [old], now_s)
            return key, text

        return await self._change(work)

    async def remove_key(self, ref: KeyRef) -> list[Key]:
        """End it and forget it; all of that name. Raises NotFound."""

        def work(connection: Connection) -> list[Key]:
            keys = tenancy.keys_called(connection, ref)
            tenancy.remove(connection, keys)
            return keys

        return await self._change(work)

    def _made(self, tenant: str, name: str, expires_s: float | None) -> tuple[Key, str]:
        now_s = self.now_s()
        if expires_s is not None and expires_s <= now_s:
            raise InvalidRequest(
                "The time at which the key is to expire is over.", param="expires_at"
            )
        text = new_key()
        return Key(tenancy.new_key_id(), tenant, name, digest_of(text), now_s, expires_s), text

    async def _change(self, work: Callable[[Connection], T]) -> T:
        def counted(connection: Connection) -> T:
            tenancy.changing(connection)
            return work(connection)

        result = await self._database.write(counted)
        await self.refresh()
        return result


def _alike(new: Roster, old: Roster) -> Roster:
    """The new one with the old one's tenants where they have not changed: others compare them by
    their identity."""
    tenants = {
        name: there if (there := old.tenants.get(name)) == tenant else tenant
        for name, tenant in new.tenants.items()
    }
    return replace(new, tenants=tenants)
