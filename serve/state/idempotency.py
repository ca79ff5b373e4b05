"""What came of requests that carry an `Idempotency-Key`: each is run once, whoever asks again.

A key is claimed before its request is run, and holds the result after that. A claim is its
gateway's, and ends with it: no key is stuck because a server was killed.
"""

import hashlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from serve.core.errors import InFlight, StorageUnavailable
from serve.settings.idempotency import Idempotency
from serve.state import custody
from serve.store.database import Database
from serve.store.tables import GATEWAYS, IDEMPOTENCY_KEYS

Headers = list[tuple[str, str]]

TRIM_EVERY: Final = 64
"""Claims between two looks at how many keys a tenant has."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was answered. `digest` is of the request, of `size_bytes`; `body` is None where it was
    too large to be kept, or holds a secret."""

    digest: str
    size_bytes: int
    status: int
    headers: Headers
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a request: `finish` or `release` it."""

    id: str


class IdempotencyKeys:
    """The keys of all tenants. `owner` is this gateway."""

    def __init__(
        self,
        database: Database,
        owner: str,
        settings: Idempotency,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._owner = owner
        self.settings = settings
        """May be replaced while it serves."""
        self._now_s = now_s
        self._lost: set[str] = set()
        """Claims of requests that have ended, which the database could not be told."""
        self._claims = itertools.count()

    async def claim(self, tenant: str, key: str) -> Claim | Result:
        """The right to run this tenant's request of this key, or what came of it.

        Raises InFlight while it runs, Conflict where the tenant is removed, and
        StorageUnavailable.
        """
        name = _name(tenant, key)

        def work(connection: Connection) -> Claim | Result:
            now_s = self._now_s()
            own = IDEMPOTENCY_KEYS.c
            row = connection.execute(select(IDEMPOTENCY_KEYS).where(own.id == name)).one_or_none()
            if row is not None and row.expires_s <= now_s:
                connection.execute(delete(IDEMPOTENCY_KEYS).where(own.id == name))
                row = None
            if row is None:
                custody.admit(connection, tenant)
                connection.execute(insert(IDEMPOTENCY_KEYS).values(self._claimed(name, tenant)))
                return Claim(name)
            if row.status is not None:
                headers = [(one, value) for one, value in row.headers]
                return Result(row.digest, row.size_bytes, row.status, headers, row.body)
            self._take_over(connection, row)
            return Claim(name)

        try:
            claimed = await self._database.write(work)
        except IntegrityError:  # another gateway was first
            raise _in_flight() from None
        if isinstance(claimed, Claim):
            self._lost.discard(name)
            if next(self._claims) % TRIM_EVERY == 0:
                await self._trim(tenant)
        return claimed

    async def finish(self, claim: Claim, result: Result) -> None:
        """Keep what came of the request. Raises StorageUnavailable.

        Nothing is kept where the tenant has been erased meanwhile.
        """
        own = IDEMPOTENCY_KEYS.c
        done = update(IDEMPOTENCY_KEYS).where(own.id == claim.id, own.owner == self._owner)
        values = {
            "digest": result.digest, "size_bytes": result.size_bytes, "status": result.status,
            "headers": result.headers, "body": result.body, "owner": None,
        }  # fmt: skip
        try:
            await self._database.write(lambda c: c.execute(done.values(values)).rowcount)
        except StorageUnavailable:
            self._lost.add(claim.id)
            raise

    async def release(self, claim: Claim) -> None:
        """Nothing came of the request: its key is free again. Raises StorageUnavailable."""
        own = IDEMPOTENCY_KEYS.c
        gone = delete(IDEMPOTENCY_KEYS).where(own.id == claim.id, own.owner == self._owner)
        try:
            await self._database.write(lambda c: c.execute(gone).rowcount)
        except StorageUnavailable:
            self._lost.add(claim.id)
            raise

    def _claimed(self, name: str, tenant: str) -> dict[str, Any]:
        now_s = self._now_s()
        return {
            "id": name, "tenant": tenant, "created_s": now_s,
            "expires_s": now_s + self.settings.keep_hours * 3600, "owner": self._owner,
        }  # fmt: skip

    def _take_over(self, connection: Connection, row: Row[Any]) -> None:
        """Claim what nobody runs any more. Raises InFlight where somebody does."""
        own = IDEMPOTENCY_KEYS.c
        mine = row.owner == self._owner and row.id in self._lost
        lives = select(exists().where(GATEWAYS.c.id == row.owner))
        if not mine and connection.execute(lives).scalar():
            raise _in_flight()
        free = update(IDEMPOTENCY_KEYS).where(own.id == row.id, own.owner == row.owner)
        if not connection.execute(free.values(owner=self._owner)).rowcount:
            raise _in_flight()

    async def _trim(self, tenant: str) -> None:
        own = IDEMPOTENCY_KEYS.c
        ended = select(own.seq).where(own.tenant == tenant, own.status.is_not(None))
        oldest = ended.order_by(own.seq.desc()).offset(self.settings.tenant_keys).limit(1)

        def work(connection: Connection) -> int:
            last = connection.execute(oldest).scalar()
            if last is None or custody.standing_of(connection, tenant).held_s is not None:
                return 0
            old = delete(IDEMPOTENCY_KEYS).where(
                own.tenant == tenant, own.status.is_not(None), own.seq <= last
            )
            return connection.execute(old).rowcount

        await self._database.write(work)


def _name(tenant: str, key: str) -> str:
    return "idem_" + hashlib.sha256(f"{tenant}\0{key}".encode()).hexdigest()


def _in_flight() -> InFlight:
    return InFlight(
        "A request with this Idempotency-Key is being answered; its result is there when it has "
        "ended. Send the request again in a while.",
        retry_after_s=1.0,
    )
