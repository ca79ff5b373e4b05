"""Daily windows of quotas, and the clock that they are on, kept over restarts.

What was counted is written about once a second: a server that is killed forgets a second of it,
and the ledger nothing.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, delete, func, select

from serve.core.errors import StorageUnavailable
from serve.core.quota import Anchor, Counted, Slot
from serve.store.adding import adding
from serve.store.database import Database
from serve.store.tables import QUOTA_CLOCKS, QUOTA_SLOTS

log = logging.getLogger("inhouse.state")

WRITE_EVERY_S: Final = 1.0
SLOT_S: Final = 300
"""See `serve.admission.window.SLOTS`."""
KEPT_SLOTS: Final = 2 * 86_400 // SLOT_S
"""Older ones have left every window."""
CLOCKS_MAX: Final = 8
"""Starts of machines of which the clocks are remembered."""


class QuotaBook:
    """Keeps what `Counted` counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writing: asyncio.Task[None] | None = None

    async def anchor(self, boot: str, now: Anchor) -> Anchor:
        """The clock of this start of the machine: what was told first, or else `now`.

        A first one is never before what has been counted already. Raises StorageUnavailable.
        """
        return await self._database.write(lambda connection: _anchor(connection, boot, now))

    async def begin(self, counted: Counted, now_s: float) -> None:
        """Tell what was kept of the last day, and keep what comes. Raises StorageUnavailable."""
        since = int(now_s // SLOT_S) - KEPT_SLOTS
        counted.load(await self._database.read(lambda connection: _rows(connection, since)))
        self._writing = asyncio.create_task(self._keep_writing(counted))

    async def end(self, counted: Counted) -> None:
        """Write what is left."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})
            await self._write(counted)

    async def _keep_writing(self, counted: Counted) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self._write(counted)

    async def _write(self, counted: Counted) -> None:
        changes = counted.take_changes()
        if not changes:
            return
        try:
            await asyncio.shield(self._database.write(lambda connection: _add(connection, changes)))
        except StorageUnavailable as error:
            counted.give_back(changes)
            log.warning("quotas are not kept now: %s", error.message)


def _anchor(connection: Connection, boot: str, now: Anchor) -> Anchor:
    clocks = QUOTA_CLOCKS.c
    found = connection.execute(
        select(clocks.monotonic_s, clocks.wall_s).where(clocks.boot == boot)
    ).one_or_none()
    if found is not None:
        return Anchor(found.monotonic_s, found.wall_s)
    newest = connection.execute(select(func.max(QUOTA_SLOTS.c.slot))).scalar()
    wall_s = now.wall_s if newest is None else max(now.wall_s, float(newest * SLOT_S))
    connection.execute(
        QUOTA_CLOCKS.insert().values(boot=boot, monotonic_s=now.monotonic_s, wall_s=wall_s)
    )
    kept = select(clocks.boot).order_by(clocks.wall_s.desc()).limit(CLOCKS_MAX)
    connection.execute(delete(QUOTA_CLOCKS).where(clocks.boot.not_in(kept), clocks.boot != boot))
    return Anchor(now.monotonic_s, wall_s)


def _rows(connection: Connection, since: int) -> list[tuple[Slot, int]]:
    slots = QUOTA_SLOTS.c
    found = connection.execute(select(QUOTA_SLOTS).where(slots.slot >= since)).all()
    return [(Slot(row.tenant, row.scope, row.kind, row.slot), row.amount) for row in found]


def _add(connection: Connection, changes: Mapping[Slot, int]) -> None:
    connection.execute(
        adding(connection, QUOTA_SLOTS, "amount"),
        # In one order, so that two servers that write the same never wait for each other.
        [{**slot._asdict(), "amount": amount} for slot, amount in sorted(changes.items())],
    )
    oldest = max(slot.slot for slot in changes) - KEPT_SLOTS
    connection.execute(delete(QUOTA_SLOTS).where(QUOTA_SLOTS.c.slot < oldest))
