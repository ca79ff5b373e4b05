"""Files of clients: what is known of them in the database, their bytes in a folder."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, Connection, RowMapping, func, or_, select

from serve.core.errors import NotFound, PayloadTooLarge
from serve.state import custody
from serve.state.folder import Folder, Incoming
from serve.state.page import Cut, page_of
from serve.store.database import Database
from serve.store.tables import FILES, UPLOADS

BATCH: Final = "batch"
BATCH_OUTPUT: Final = "batch_output"
PENDING: Final = "pending"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file. Times are Unix seconds; `digest` is `sha256:…` of its bytes."""

    id: str
    tenant: str
    created_s: float
    expires_s: float | None
    purpose: str
    filename: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class FilePage:
    """`has_more`: others follow in the list's order."""

    files: tuple[FileRecord, ...]
    has_more: bool


class Files:
    """Files by tenant: another tenant's, a deleted and an expired one do not exist.

    `ttl_s` is how long a tenant's files are kept where it did not say, None for ever;
    `tenant_max_bytes` what they may take together.
    """

    def __init__(
        self,
        database: Database,
        folder: Folder,
        ttl_s: Callable[[str], float | None],
        tenant_max_bytes: Callable[[], int],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._folder = folder
        self._ttl_s = ttl_s
        self._tenant_max_bytes = tenant_max_bytes
        self._wall_s = wall_s

    def begin(self) -> Incoming:
        """Begin to write a file's bytes. End with `keep`, or with the incoming's `discard`."""
        return self._folder.begin(f"file-{os.urandom(16).hex()}")

    async def keep(
        self, incoming: Incoming, tenant: str, purpose: str, filename: str, keep_s: float | None
    ) -> FileRecord:
        """Make what was written a file, for `keep_s` seconds or as long as the tenant's are.

        Raises PayloadTooLarge where the tenant has no room left for it, Conflict where it has
        been removed, and StorageUnavailable; nothing is left of it then.
        """
        record = await self.sealed(incoming, tenant, purpose, filename, keep_s)
        try:
            await self._database.write(lambda connection: self._add(connection, record))
        except Exception:  # a cancelled write is finished all the same
            await incoming.discard()
            raise
        return record

    async def sealed(
        self, incoming: Incoming, tenant: str, purpose: str, filename: str, keep_s: float | None
    ) -> FileRecord:
        """As `keep`, up to what the database is told: `insert` the record, or discard."""
        await incoming.seal()
        now_s = self._wall_s()
        keep_s = self._ttl_s(tenant) if keep_s is None else keep_s
        expires_s = None if keep_s is None else now_s + keep_s
        return FileRecord(
            incoming.id, tenant, now_s, expires_s, purpose, filename[-512:],
            incoming.size_bytes, incoming.digest,
        )  # fmt: skip

    async def get(self, tenant: str, file_id: str) -> FileRecord:
        """Raises NotFound."""
        query = select(FILES).where(FILES.c.id == file_id, self._there(tenant))
        row = await self._database.read(lambda c: c.execute(query).mappings().first())
        if row is None:
            raise file_not_found(file_id)
        return _record(row)

    async def path(self, tenant: str, file_id: str) -> tuple[FileRecord, Path]:
        """The file, and where its bytes are. Raises NotFound."""
        record = await self.get(tenant, file_id)
        path = self._folder.path_of(record.id)
        if not await asyncio.to_thread(path.is_file):
            raise file_not_found(file_id)
        return record, path

    async def page(self, tenant: str, cut: Cut, purpose: str | None = None) -> FilePage:
        """A page of the tenant's files. Raises InvalidRequest for a start that is none of them."""
        query = select(FILES).where(self._there(tenant))
        if purpose is not None:
            query = query.where(FILES.c.purpose == purpose)
        page = await self._database.read(lambda c: page_of(c, FILES, query, cut))
        return FilePage(tuple(_record(row) for row in page.rows), page.has_more)

    async def delete(self, tenant: str, file_id: str) -> None:
        """Forget it and its bytes. Raises NotFound."""
        which = (FILES.c.id == file_id) & self._there(tenant)
        now_s = self._wall_s()
        taken = await self._database.write(
            lambda c: custody.take_away(c, FILES, which, tenant, now_s)
        )
        if not taken.count:
            raise file_not_found(file_id)
        if taken.destroyed:
            await self._folder.remove([file_id])

    def reserve(self, connection: Connection, tenant: str, size_bytes: int) -> None:
        """Raises PayloadTooLarge where the tenant has no room left for so much more."""
        files = select(func.coalesce(func.sum(FILES.c.size_bytes), 0)).where(self._there(tenant))
        coming = select(func.coalesce(func.sum(UPLOADS.c.size_bytes), 0)).where(
            UPLOADS.c.tenant == tenant,
            UPLOADS.c.status == PENDING,
            UPLOADS.c.expires_s > self._wall_s(),
        )
        held = sum(int(connection.execute(one).scalar_one()) for one in (files, coming))
        allowed = self._tenant_max_bytes()
        if held + size_bytes > allowed:
            raise PayloadTooLarge(
                f"Your files and uploads take {held} bytes, and with this one they would take more "
                f"than {allowed / 2**30:g} GiB (files.tenant_gib). Delete some of them first.",
                code="storage_limit_exceeded",
            )

    def _add(self, connection: Connection, record: FileRecord) -> None:
        custody.admit(connection, record.tenant)
        self.reserve(connection, record.tenant, record.size_bytes)
        insert(connection, record)

    def _there(self, tenant: str) -> ColumnElement[bool]:
        expires = FILES.c.expires_s
        alive = or_(expires.is_(None), expires > self._wall_s())
        return (FILES.c.tenant == tenant) & alive


def insert(connection: Connection, record: FileRecord) -> None:
    """Have a file whose bytes have been sealed be seen."""
    values = {name: getattr(record, name) for name in FileRecord.__slots__}
    connection.execute(FILES.insert().values(values))


def file_not_found(file_id: str, param: str | None = "id") -> NotFound:
    """In the words of the API."""
    return NotFound(f"No such File object: {file_id[:80]}", param=param, code=None)


def _record(row: RowMapping) -> FileRecord:
    return FileRecord(**{name: row[name] for name in FileRecord.__slots__})
