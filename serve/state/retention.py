"""The end of what is kept: what has expired, and all of a tenant that asks to be forgotten."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, delete, select

from serve.core.errors import StorageUnavailable
from serve.state.folder import Folder
from serve.store.database import Database
from serve.store.tables import (
    BATCHES,
    COMPLETIONS,
    CONVERSATIONS,
    FILES,
    RESPONSES,
    UPLOAD_PARTS,
    UPLOADS,
)

log = logging.getLogger("inhouse.state")

KEPT: Final = (RESPONSES, CONVERSATIONS, COMPLETIONS)
"""Tables of what lies in the database alone."""
WITH_BYTES: Final = (FILES, BATCHES)
"""Tables of what has bytes in the folder too, under its id."""

SWEEP_EVERY_S: Final = 600.0


class Retention:
    """Expired objects cannot be read from their last second on; this frees their room.

    `forget` is called when objects have been removed: memories of them are to go too.
    """

    def __init__(
        self, database: Database, folder: Folder, forget: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._folder = folder
        self._forget = forget

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
        return await self._remove(lambda table: table.c.expires_s <= now_s)

    async def erase(self, tenant: str) -> int:
        """Remove all objects of a tenant; how many."""
        return await self._remove(lambda table: table.c.tenant == tenant)

    async def tidy(self) -> None:
        """Remove bytes that belong to nothing: a server that ended was about to use or remove
        them. Nothing may be on its way into the folder. Raises StorageUnavailable."""

        def work(connection: Connection) -> set[str]:
            owners = (FILES, BATCHES, UPLOAD_PARTS)
            return {
                name for one in owners for name in connection.execute(select(one.c.id)).scalars()
            }

        await self._folder.make()
        removed = await self._folder.keep_only(await self._database.read(work))
        if removed:
            log.info("unfinished files were removed", extra={"files": removed})

    async def _remove(self, which: Callable[[Table], ColumnElement[bool]]) -> int:
        def work(connection: Connection) -> tuple[int, list[str]]:
            gone = (delete(table).where(which(table)) for table in KEPT)
            count = sum(connection.execute(one).rowcount for one in gone)
            uploads = select(UPLOADS.c.id).where(which(UPLOADS))
            parts = select(UPLOAD_PARTS.c.id).where(UPLOAD_PARTS.c.upload.in_(uploads))
            names = list(connection.execute(parts).scalars())
            count += connection.execute(delete(UPLOADS).where(which(UPLOADS))).rowcount
            for table in WITH_BYTES:
                ids = delete(table).where(which(table)).returning(table.c.id)
                removed = list(connection.execute(ids).scalars())
                names += removed
                count += len(removed)
            return count, names

        count, names = await self._database.write(work)
        if count:
            self._forget()
        await self._folder.remove(names)
        return count
