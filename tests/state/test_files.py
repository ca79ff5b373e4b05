"""Files and uploads in both databases, and their bytes in a folder."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from serve.core.errors import Conflict, NotFound, PayloadTooLarge, StorageUnavailable
from serve.state.files import FileRecord, Files
from serve.state.folder import GATHERED_BYTES, Folder
from serve.state.page import Cut
from serve.state.uploads import UPLOAD_S, Uploads
from serve.store.database import Database
from tests.state.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "files")
    await folder.make()
    return folder


@pytest.fixture
def files(database: Database, folder: Folder, clock: Clock) -> Files:
    return Files(database, folder, lambda _: 60.0, lambda: 3 * 2**20, clock)


@pytest.fixture
def uploads(database: Database, folder: Folder, files: Files, clock: Clock) -> Uploads:
    return Uploads(database, folder, files, clock)


def names(folder: Folder) -> list[str]:
    return sorted(one.name for one in folder.path.iterdir())


async def put(files: Files, data: bytes, tenant: str = "t", purpose: str = "batch") -> FileRecord:
    incoming = files.begin()
    await incoming.write(data)
    return await files.keep(incoming, tenant, purpose, "name", None)


async def test_bytes_are_seen_once_they_are_whole(files: Files, folder: Folder) -> None:
    data = os.urandom(GATHERED_BYTES + 1)
    incoming = files.begin()
    for start in range(0, len(data), 100_000):
        await incoming.write(data[start : start + 100_000])
    assert names(folder) == [f".{incoming.id}.part"]
    with pytest.raises(NotFound):
        await files.get("t", incoming.id)
    made = await files.keep(incoming, "t", "batch", "ü.jsonl", None)
    assert names(folder) == [made.id]
    found, path = await files.path("t", made.id)
    assert found == made
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert made.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert made.size_bytes == len(data)


async def test_tenants_and_expiry(files: Files, clock: Clock) -> None:
    made = await put(files, b"x")
    for verb in (files.get, files.path, files.delete):
        with pytest.raises(NotFound):
            await verb("u", made.id)
    clock.now_s += 60
    with pytest.raises(NotFound):
        await files.get("t", made.id)
    assert (await files.page("t", Cut())).files == ()


async def test_pages_by_purpose(files: Files) -> None:
    made = [await put(files, b"x", purpose=one) for one in ("batch", "user_data", "batch")]
    page = await files.page("t", Cut(limit=1), "batch")
    assert (page.files, page.has_more) == ((made[2],), True)
    assert (await files.page("t", Cut(after=made[2].id), "batch")).files == (made[0],)
    await files.delete("t", made[0].id)
    assert (await files.page("t", Cut(), "batch")).files == (made[2],)


async def test_a_tenant_has_so_much_room(files: Files, uploads: Uploads, folder: Folder) -> None:
    first = await put(files, b"x" * 2**20)
    upload = await uploads.add(
        "t", purpose="batch", filename="a", mime_type="b", size_bytes=2**20, keep_s=None
    )
    with pytest.raises(PayloadTooLarge, match=r"files\.tenant_gib") as refused:
        await put(files, b"x" * (2**20 + 1))
    assert refused.value.code == "storage_limit_exceeded"
    assert names(folder) == [first.id]
    assert (await put(files, b"x" * (2**20 + 1), tenant="u")).tenant == "u"
    await uploads.cancel("t", upload.id)
    assert (await put(files, b"x" * (2**20 + 1))).tenant == "t"


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
async def test_a_full_disk_leaves_nothing(
    files: Files, folder: Folder, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*{"rename": (Path, "rename")}.get(call, (os, call)), full)
    incoming = files.begin()
    with pytest.raises(StorageUnavailable, match="no room"):
        await incoming.write(b"x" * GATHERED_BYTES)
        await files.keep(incoming, "t", "batch", "name", None)
    monkeypatch.undo()
    assert names(folder) == []
    assert (await files.page("t", Cut())).files == ()


async def test_an_upload_is_completed_once(uploads: Uploads, files: Files, folder: Folder) -> None:
    upload = await uploads.add(
        "t", purpose="user_data", filename="a", mime_type="b", size_bytes=3, keep_s=7
    )
    parts = []
    for data in (b"ab", b"c"):
        incoming = uploads.begin()
        await incoming.write(data)
        await uploads.keep(incoming, "t", upload.id)
        parts.append(incoming.id)
    with pytest.raises(NotFound):
        await uploads.pending("u", upload.id)
    done, file = await uploads.complete("t", upload.id, parts[::-1], None)
    assert (done.status, done.file) == ("completed", file.id)
    assert file.expires_s == file.created_s + 7
    assert (await files.path("t", file.id))[1].read_bytes() == b"cab"
    assert names(folder) == [file.id]
    with pytest.raises(Conflict):
        await uploads.complete("t", upload.id, parts, None)
    assert names(folder) == [file.id]


async def test_an_upload_has_an_hour(uploads: Uploads, folder: Folder, clock: Clock) -> None:
    upload = await uploads.add(
        "t", purpose="batch", filename="a", mime_type="b", size_bytes=3, keep_s=None
    )
    clock.now_s += UPLOAD_S
    incoming = uploads.begin()
    await incoming.write(b"x")
    with pytest.raises(NotFound, match="No such Upload"):
        await uploads.keep(incoming, "t", upload.id)
    assert names(folder) == []
