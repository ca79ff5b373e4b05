"""What has expired goes, and all of a tenant that asks for it."""

from pathlib import Path

from sqlalchemy import Connection, select

from serve.state.conversations import Conversations
from serve.state.files import Files
from serve.state.folder import Folder
from serve.state.page import Cut
from serve.state.records import Event
from serve.state.responses import Responses
from serve.state.retention import Retention
from serve.state.uploads import UPLOAD_S, Uploads
from serve.store.database import Database
from serve.store.tables import CONVERSATION_ITEMS, RESPONSE_EVENTS, RESPONSES
from tests.state.test_responses import NOW_S, record


def left(connection: Connection) -> tuple[set[str], set[str], set[str]]:
    return (
        set(connection.execute(select(RESPONSES.c.id)).scalars()),
        set(connection.execute(select(RESPONSE_EVENTS.c.response)).scalars()),
        set(connection.execute(select(CONVERSATION_ITEMS.c.conversation)).scalars()),
    )


async def test_sweep_and_erase(database: Database, tmp_path: Path) -> None:
    responses = Responses(database, lambda: NOW_S - 1)
    retention = Retention(database, Folder(tmp_path))
    conversations = Conversations(database, lambda _: 60.0, lambda: NOW_S)
    for name, tenant, expires_s in (("a", "t", NOW_S), ("b", "t", None), ("c", "u", NOW_S + 1)):
        await responses.add(record(name, tenant=tenant, expires_s=expires_s))
        await responses.append_events(name, [Event(0, b"x")])
        await conversations.add(tenant, f"conv_{name}", {}, [{"id": "msg"}])
    assert await retention.sweep(NOW_S) == 1
    every = {"conv_a", "conv_b", "conv_c"}
    assert await database.read(left) == ({"b", "c"}, {"b", "c"}, every)
    assert await retention.erase("t") == {"responses": 1, "conversations": 2}
    assert await database.read(left) == ({"c"}, {"c"}, {"conv_c"})
    assert await retention.sweep(NOW_S + 60) == 2
    assert await database.read(left) == (set(), set(), set())


async def test_bytes_go_with_what_they_belong_to(database: Database, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "files")
    retention = Retention(database, folder)
    await retention.tidy()
    files = Files(database, folder, lambda _: 60.0, lambda: 10**6, lambda: NOW_S)
    uploads = Uploads(database, folder, files, lambda: NOW_S)

    async def file(tenant: str, keep_s: float | None) -> str:
        incoming = files.begin()
        await incoming.write(b"x")
        return (await files.keep(incoming, tenant, "batch", "name", keep_s)).id

    short, long, other = await file("t", 1), await file("t", 9999), await file("u", 9999)
    upload = await uploads.add(
        "t", purpose="batch", filename="a", mime_type="b", size_bytes=9, keep_s=None
    )
    part = uploads.begin()
    await part.write(b"x")
    await uploads.keep(part, "t", upload.id)
    begun = files.begin()
    await begun.write(b"x" * 2**20)
    (folder.path / "of nobody").write_text("x")
    assert len(here(folder)) == 6
    await retention.remove_strays(60.0)
    assert len(here(folder)) == 6, "another gateway may be about to use it"
    await retention.remove_strays(0.0)
    assert here(folder) == {short, long, other, part.id}
    assert await retention.sweep(NOW_S + 1) == 1
    assert here(folder) == {long, other, part.id}
    assert await retention.sweep(NOW_S + UPLOAD_S) == 1
    assert here(folder) == {long, other}
    assert await retention.erase("t") == {"files": 1}
    assert here(folder) == {other}
    assert [one.id for one in (await files.page("u", Cut())).files] == [other]


def here(folder: Folder) -> set[str]:
    return {one.name for one in folder.path.iterdir()}
