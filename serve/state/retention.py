"""The end of what is kept: what has expired, and all of a tenant that asks to be forgotten.

Both go in small steps, so that other writes come in between. Each step destroys bytes before it
forgets them: one that is cut short leaves nothing that nobody knows of, and is done again.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from sqlalchemy import ColumnElement, Connection, Delete, Table, delete, select

from serve.core.errors import StorageUnavailable
from serve.state import custody
from serve.state.folder import Folder
from serve.store.database import Database
from serve.store.tables import (
    BATCH_LINES,
    BATCHES,
    COMPLETIONS,
    CONVERSATIONS,
    FILES,
    IDEMPOTENCY_KEYS,
    REQUEST_TEXTS,
    RESPONSES,
    UPLOAD_PARTS,
    UPLOADS,
)

log = logging.getLogger("inhouse.state")

KEPT: Final[Mapping[str, Table]] = {
    "responses": RESPONSES,
    "conversations": CONVERSATIONS,
    "chat_completions": COMPLETIONS,
    "files": FILES,
    "uploads": UPLOADS,
    "batches": BATCHES,
    "idempotency_keys": IDEMPOTENCY_KEYS,
    "request_texts": REQUEST_TEXTS,
}
"""All that belongs to a tenant and ends with it, by the words that its end is told in."""
WITH_BYTES: Final = (FILES, BATCHES)
"""Tables of what has bytes in the folder too, under its id."""

SWEEP_EVERY_S: Final = 600.0
STRAY_AFTER_S: Final = 3600.0
"""Bytes that the database has not known for so long belong to nothing."""
_STEP_ROWS: Final = 100
_STEP_LINES: Final = 1000

Check = Callable[[Connection], None]


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
                if not self._database.exclusive:
                    # Another gateway may have removed what has its bytes in this one's folder.
                    await self.remove_strays(STRAY_AFTER_S)
            except StorageUnavailable as error:
                log.warning("expired objects are still there: %s", error.message)
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self, now_s: float) -> int:
        """Remove what had expired at that time and is under no legal hold; how many objects."""
        gone = await self._remove(
            lambda table: (table.c.expires_s <= now_s) & custody.not_held(table),
            custody.freeze_holds,
        )
        return gone.total()

    async def erase(self, tenant: str) -> Mapping[str, int]:
        """Remove all objects of a tenant; how many of each kind.

        Raises StorageUnavailable, and Conflict where a legal hold is set meanwhile; what was
        not removed by then is removed when it is called again.
        """
        return await self._remove(
            lambda table: table.c.tenant == tenant,
            lambda connection: custody.refuse_held(connection, tenant),
        )

    async def tidy(self) -> None:
        """Remove bytes that belong to nothing: a server that ended was about to use or remove
        them. Call it before anything is on its way into the folder; what another gateway may be
        writing there is left for an hour. Raises StorageUnavailable."""
        await self._folder.make()
        await self.remove_strays(0.0 if self._database.exclusive else STRAY_AFTER_S)

    async def remove_strays(self, older_than_s: float) -> None:
        """Remove bytes that the database does not know and that are older than that."""
        names = await self._folder.names(older_than_s)
        strays = names - await self._database.read(_with_bytes)
        await self._folder.remove(strays)
        if strays:
            log.info("unfinished files were removed", extra={"files": len(strays)})

    async def _remove(
        self, which: Callable[[Table], ColumnElement[bool]], check: Check
    ) -> Counter[str]:
        gone: Counter[str] = Counter()
        await self._remove_lines(which, check)
        try:
            for kind, table in KEPT.items():
                step = partial(self._step, table=table, which=which(table), check=check)
                while count := await self._database.write(step):
                    gone[kind] += count
        finally:
            self._forget()
        return gone

    async def _remove_lines(
        self, which: Callable[[Table], ColumnElement[bool]], check: Check
    ) -> None:
        """A batch may have a million; they do not go in one step with it."""
        batches = select(BATCHES.c.id).where(which(BATCHES))
        for batch_id in await self._database.read(lambda c: list(c.execute(batches).scalars())):
            own = BATCH_LINES.c
            some = select(own.line).where(own.batch == batch_id).order_by(own.line)
            gone = delete(BATCH_LINES).where(
                own.batch == batch_id, own.line.in_(some.limit(_STEP_LINES))
            )

            def step(connection: Connection, gone: Delete = gone) -> int:
                check(connection)
                return connection.execute(gone).rowcount

            while await self._database.write(step):
                pass

    def _step(
        self, connection: Connection, table: Table, which: ColumnElement[bool], check: Check
    ) -> int:
        check(connection)
        some = select(table.c.id).where(which).order_by(table.c.seq).limit(_STEP_ROWS)
        ids = list(connection.execute(some).scalars())
        if not ids:
            return 0
        names = ids if table in WITH_BYTES else []
        if table is UPLOADS:
            parts = select(UPLOAD_PARTS.c.id).where(UPLOAD_PARTS.c.upload.in_(ids))
            names = list(connection.execute(parts).scalars())
        self._folder.destroy(names)
        return connection.execute(delete(table).where(table.c.id.in_(ids))).rowcount


def _with_bytes(connection: Connection) -> set[str]:
    owners = (FILES, BATCHES, UPLOAD_PARTS)
    return {name for one in owners for name in connection.execute(select(one.c.id)).scalars()}
