"""The end of what is kept: what has expired, and all of a tenant that asks to be forgotten."""

import asyncio
import logging
import time
from typing import Final

from sqlalchemy import Connection, delete

from serve.core.errors import StorageUnavailable
from serve.store.database import Database
from serve.store.tables import COMPLETIONS, CONVERSATIONS, RESPONSES

log = logging.getLogger("inhouse.state")

KEPT: Final = (RESPONSES, CONVERSATIONS, COMPLETIONS)
"""Tables of what lies in the database alone."""

SWEEP_EVERY_S: Final = 600.0


class Retention:
    """Expired objects cannot be read from their last second on; this frees their room."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep_sweeping(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                await self.sweep(time.time())
            except StorageUnavailable as error:
                log.warning("expired objects are still there: %s", error.message)
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self, now_s: float) -> int:
        """Remove what had expired at that time; how many objects."""

        def work(connection: Connection) -> int:
            gone = (delete(table).where(table.c.expires_s <= now_s) for table in KEPT)
            return sum(connection.execute(one).rowcount for one in gone)

        return await self._database.write(work)

    async def erase(self, tenant: str) -> int:
        """Remove all objects of a tenant; how many."""

        def work(connection: Connection) -> int:
            gone = (delete(table).where(table.c.tenant == tenant) for table in KEPT)
            return sum(connection.execute(one).rowcount for one in gone)

        return await self._database.write(work)
