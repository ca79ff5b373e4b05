"""Uploads: files that come in parts, and become a file once they are complete."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, func, select, update

from serve.core.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge
from serve.state import custody
from serve.state.files import PENDING, FileRecord, Files, insert
from serve.state.folder import Folder, Incoming, joined
from serve.store.database import Database
from serve.store.tables import UPLOAD_PARTS, UPLOADS

UPLOAD_S: Final = 3600.0
"""What an upload has from its creation to its completion (OpenAI API reference, uploads)."""


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """One upload: `size_bytes` is what it will have; `file` the id of what it became.

    `status` is pending, completed or cancelled. `keep_s` is how long the file is to be kept.
    """

    id: str
    tenant: str
    created_s: float
    expires_s: float
    status: str
    purpose: str
    filename: str
    mime_type: str
    size_bytes: int
    keep_s: float | None = None
    file: str | None = None


class Uploads:
    """Uploads by tenant: another tenant's, and one whose hour is over, do not exist."""

    def __init__(
        self,
        database: Database,
        folder: Folder,
        files: Files,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._folder = folder
        self._files = files
        self._wall_s = wall_s

    async def add(
        self,
        tenant: str,
        *,
        purpose: str,
        filename: str,
        mime_type: str,
        size_bytes: int,
        keep_s: float | None,
    ) -> UploadRecord:
        """Announce one. Raises PayloadTooLarge where the tenant has no room left for it."""
        now_s = self._wall_s()
        record = UploadRecord(
            f"upload_{os.urandom(16).hex()}", tenant, now_s, now_s + UPLOAD_S, PENDING,
            purpose, filename, mime_type, size_bytes, keep_s,
        )  # fmt: skip

        def work(connection: Connection) -> None:
            custody.admit(connection, tenant)
            self._files.reserve(connection, tenant, size_bytes)
            values = {name: getattr(record, name) for name in UploadRecord.__slots__}
            connection.execute(UPLOADS.insert().values(values))

        await self._database.write(work)
        return record

    async def pending(self, tenant: str, upload_id: str) -> UploadRecord:
        """One that still takes parts. Raises NotFound, and Conflict where it has ended."""
        return await self._database.read(lambda c: self._pending(c, tenant, upload_id))

    def begin(self) -> Incoming:
        """Begin to write a part's bytes. End with `keep`, or with the incoming's `discard`."""
        return self._folder.begin(f"part_{os.urandom(16).hex()}")

    async def keep(self, incoming: Incoming, tenant: str, upload_id: str) -> None:
        """Make what was written a part. Raises what `pending` does, and PayloadTooLarge where the
        parts would take more than was announced."""
        await incoming.seal()

        def work(connection: Connection) -> None:
            upload = self._pending(connection, tenant, upload_id)
            own = UPLOAD_PARTS.c
            sizes = select(func.coalesce(func.sum(own.size_bytes), 0)).where(
                own.upload == upload.id
            )
            have = int(connection.execute(sizes).scalar_one()) + incoming.size_bytes
            if have > upload.size_bytes:
                raise PayloadTooLarge(
                    f"The parts have {have} bytes, more than the {upload.size_bytes} that the "
                    "upload was created with.",
                    param="data",
                )
            values = {"id": incoming.id, "upload": upload.id, "size_bytes": incoming.size_bytes}
            connection.execute(UPLOAD_PARTS.insert().values(values))

        try:
            await self._database.write(work)
        except Exception:  # a cancelled write is finished all the same
            await incoming.discard()
            raise

    async def complete(
        self, tenant: str, upload_id: str, part_ids: Sequence[str], md5: str | None
    ) -> tuple[UploadRecord, FileRecord]:
        """Join the parts in this order into a file.

        Raises what `pending` does, and InvalidRequest where a part is unknown, or where what they
        make is not what was announced; the upload goes on then.
        """
        upload = await self.pending(tenant, upload_id)
        await self._check_parts(upload, part_ids)
        incoming = self._files.begin()
        try:
            await self._join(incoming, [self._folder.path_of(one) for one in part_ids], md5)
            file = await self._files.sealed(
                incoming, tenant, upload.purpose, upload.filename, upload.keep_s
            )
        except BaseException:
            await incoming.discard()
            raise
        try:
            done, parts = await self._database.write(lambda c: self._completed(c, upload, file))
        except Exception:  # a cancelled write is finished all the same
            await incoming.discard()
            raise
        await self._folder.remove(parts)
        return done, file

    async def cancel(self, tenant: str, upload_id: str) -> UploadRecord:
        """Forget its parts; none can be added. Raises what `pending` does."""

        def work(connection: Connection) -> tuple[UploadRecord, list[str]]:
            held = custody.standing_of(connection, tenant).held_s is not None
            upload = self._pending(connection, tenant, upload_id)
            if held:
                _mark(connection, upload, "cancelled", None)
                return replace(upload, status="cancelled"), []
            return self._ended(connection, upload, "cancelled", None)

        done, parts = await self._database.write(work)
        await self._folder.remove(parts)
        return done

    async def _check_parts(self, upload: UploadRecord, part_ids: Sequence[str]) -> None:
        own = UPLOAD_PARTS.c
        query = select(own.id, own.size_bytes).where(own.upload == upload.id)
        sizes = {
            row[0]: row[1] for row in await self._database.read(lambda c: c.execute(query).all())
        }
        for place, one in enumerate(part_ids):
            if one not in sizes:
                raise InvalidRequest(
                    f"The upload has no part {one[:80]!r}.", param=f"part_ids[{place}]"
                )
        if len(set(part_ids)) < len(part_ids):
            raise InvalidRequest("A part is named twice.", param="part_ids")
        have = sum(sizes[one] for one in part_ids)
        if have != upload.size_bytes:
            raise InvalidRequest(
                f"The parts have {have} bytes; the upload was created with {upload.size_bytes}.",
                param="part_ids",
            )

    async def _join(self, incoming: Incoming, parts: Sequence[Path], md5: str | None) -> None:
        found = hashlib.md5(usedforsecurity=False)
        pieces: Iterator[bytes] = iter(joined(parts))
        try:
            while (data := await asyncio.to_thread(next, pieces, None)) is not None:
                found.update(data)
                await incoming.write(data)
        except FileNotFoundError:  # cancelled, or completed, meanwhile
            raise Conflict("The upload has ended meanwhile.") from None
        if md5 is not None and found.hexdigest() != md5.lower():
            raise InvalidRequest(
                f"The MD5 checksum of the parts is {found.hexdigest()}.", param="md5"
            )

    def _completed(
        self, connection: Connection, upload: UploadRecord, file: FileRecord
    ) -> tuple[UploadRecord, list[str]]:
        self._pending(connection, upload.tenant, upload.id)
        insert(connection, file)
        return self._ended(connection, upload, "completed", file.id)

    def _ended(
        self, connection: Connection, upload: UploadRecord, status: str, file: str | None
    ) -> tuple[UploadRecord, list[str]]:
        parts = select(UPLOAD_PARTS.c.id).where(UPLOAD_PARTS.c.upload == upload.id)
        names = list(connection.execute(parts).scalars())
        connection.execute(delete(UPLOAD_PARTS).where(UPLOAD_PARTS.c.upload == upload.id))
        _mark(connection, upload, status, file)
        return replace(upload, status=status, file=file), names

    def _pending(self, connection: Connection, tenant: str, upload_id: str) -> UploadRecord:
        query = select(UPLOADS).where(UPLOADS.c.id == upload_id, self._there(tenant))
        row = connection.execute(query.with_for_update()).mappings().first()
        if row is None:
            raise NotFound(f"No such Upload object: {upload_id[:80]}", param="id", code=None)
        if row["status"] != PENDING:
            raise Conflict(f"The upload {upload_id} is {row['status']} already.")
        return _record(row)

    def _there(self, tenant: str) -> ColumnElement[bool]:
        return (UPLOADS.c.tenant == tenant) & (UPLOADS.c.expires_s > self._wall_s())


def _mark(connection: Connection, upload: UploadRecord, status: str, file: str | None) -> None:
    same = update(UPLOADS).where(UPLOADS.c.id == upload.id)
    connection.execute(same.values(status=status, file=file))


def _record(row: RowMapping) -> UploadRecord:
    return UploadRecord(**{name: row[name] for name in UploadRecord.__slots__})
