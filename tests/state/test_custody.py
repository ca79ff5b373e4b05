"""A legal hold keeps what clients delete and what expires; what is erased does not come back."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from serve.core.errors import Conflict, NotFound
from serve.settings.state import Retention as Ttl
from serve.settings.state import State
from serve.settings.tenants import TenantTerms
from serve.state.completions import Completions, Wanted
from serve.state.conversations import Conversations
from serve.state.directory import Directory
from serve.state.page import Cut
from serve.state.records import Event
from serve.state.responses import Responses
from serve.state.storage import Storage
from serve.store.tables import (
    CONVERSATION_ITEMS,
    LEGAL_HOLDS,
    RESPONSE_EVENTS,
    TENANTS,
    UPLOAD_PARTS,
)
from tests.state.test_batches import lines
from tests.state.test_batches import record as batch_record
from tests.state.test_responses import record, running

DAY_S = 86_400


class Site:
    """All stores over one database, and a clock that the test moves."""

    def __init__(self, database_url: str, var_dir: Path) -> None:
        state = State(database=database_url, ttl_days=1, tenants={"ever": Ttl(ttl_days=None)})
        self.storage = Storage(state, var_dir)
        self.now_s = time.time()
        database = self.storage.database
        self.directory = Directory(database, self.clock)
        self.responses = Responses(database, self.clock, owner=self.storage.gateways.id)
        self.conversations = Conversations(database, self.storage.ttl_s, self.clock)
        self.completions = Completions(database, self.storage.ttl_s, self.clock)
        self.files, self.uploads = self.storage.files, self.storage.uploads
        self.batches, self.retention = self.storage.batches, self.storage.retention

    def clock(self) -> float:
        return self.now_s

    async def open(self) -> None:
        for store in (self.files, self.uploads, self.batches):
            store._wall_s = self.clock
        await self.storage.open()
        await self.directory.add_tenant("t", TenantTerms())

    async def fill(self, tenant: str = "t") -> dict[str, str]:
        """One object of each kind; their ids."""
        own = f"of_{tenant}"
        expires_s = self.now_s + DAY_S
        await self.responses.add(running(f"resp_{own}", tenant=tenant, expires_s=expires_s))
        await self.responses.append_events(f"resp_{own}", [Event(0, b"x")])
        await self.conversations.add(tenant, f"conv_{own}", {}, [{"id": "m1"}, {"id": "m2"}])
        completion = {"id": f"chatcmpl_{own}", "model": "m", "metadata": {"k": "v"}}
        await self.completions.add(tenant, "m", completion, [{"role": "user"}])
        incoming = self.files.begin()
        await incoming.write(b"file")
        file = await self.files.keep(incoming, tenant, "batch", "name", None)
        upload = await self.uploads.add(
            tenant, purpose="batch", filename="a", mime_type="b", size_bytes=4, keep_s=None
        )
        part = self.uploads.begin()
        await part.write(b"part")
        await self.uploads.keep(part, tenant, upload.id)
        await self.storage.folder.link(file.id, f"batch_{own}")
        await self.batches.add(batch_record(f"batch_{own}", tenant=tenant), 10)
        await self.batches.put_lines(f"batch_{own}", lines(3))
        return {"file": file.id, "upload": upload.id, "part": part.id}

    def bytes_there(self) -> set[str]:
        return {path.name for path in self.storage.folder.path.iterdir()}

    async def count(self, table: Any) -> int:
        query = select(func.count()).select_from(table)

        def work(connection: Connection) -> int:
            return int(connection.execute(query).scalar_one())

        return await self.storage.database.read(work)


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    one = Site(database_url, tmp_path)
    await one.open()
    yield one
    await one.storage.close()


async def delete_all(site: Site, ids: dict[str, str]) -> None:
    """What a client of `t` can delete."""
    await site.responses.delete("t", "resp_of_t")
    await site.conversations.delete_item("t", "conv_of_t", "m1")
    await site.conversations.delete("t", "conv_of_t")
    await site.completions.delete("t", "chatcmpl_of_t")
    await site.files.delete("t", ids["file"])
    await site.uploads.cancel("t", ids["upload"])


async def test_what_is_deleted_under_a_hold_is_hidden_and_stays(site: Site) -> None:
    ids = await site.fill()
    there = site.bytes_there()
    await site.directory.hold("t", "case 7")
    await delete_all(site, ids)
    for gone in (
        site.responses.get("t", "resp_of_t"),
        site.responses.events("t", "resp_of_t", -1),
        site.conversations.items("t", "conv_of_t"),
        site.completions.get("t", "chatcmpl_of_t"),
        site.files.get("t", ids["file"]),
        site.responses.delete("t", "resp_of_t"),
    ):
        with pytest.raises(NotFound):
            await gone
    assert (await site.files.page("t", Cut())).files == ()
    assert not await site.responses.put(record("resp_of_t", background=True))
    assert site.bytes_there() == there
    site.now_s += 9 * DAY_S
    assert await site.retention.sweep(site.now_s) == 0
    for table, count in ((RESPONSE_EVENTS, 1), (CONVERSATION_ITEMS, 2), (UPLOAD_PARTS, 1)):
        assert await site.count(table) == count
    await site.directory.lift("t", "settled")
    assert await site.retention.sweep(site.now_s) == 5
    assert site.bytes_there() == {"batch_of_t"}, "its end has not come yet"


async def test_without_a_hold_a_deletion_destroys(site: Site) -> None:
    ids = await site.fill()
    await delete_all(site, ids)
    assert site.bytes_there() == {"batch_of_t"}
    for table in (RESPONSE_EVENTS, CONVERSATION_ITEMS, UPLOAD_PARTS):
        assert await site.count(table) == 0


async def test_an_item_s_id_is_free_again_while_the_hold_keeps_it(site: Site) -> None:
    await site.fill()
    await site.directory.hold("t", "case 7")
    for _ in range(2):
        await site.conversations.delete_item("t", "conv_of_t", "m1")
        with pytest.raises(NotFound):
            await site.conversations.item("t", "conv_of_t", "m1")
        await site.conversations.append("t", "conv_of_t", [{"id": "m1"}])
    assert await site.conversations.items("t", "conv_of_t") == ({"id": "m2"}, {"id": "m1"})
    page = await site.conversations.page("t", "conv_of_t", Cut())
    assert page.items == ({"id": "m1"}, {"id": "m2"})
    assert await site.count(CONVERSATION_ITEMS) == 4


async def test_nothing_of_a_held_tenant_is_erased(site: Site) -> None:
    await site.fill()
    await site.directory.hold("t", "case 7")
    for refused in (
        site.directory.begin_erasure("t"),
        site.directory.remove_tenant("t"),
        site.retention.erase("t"),
    ):
        with pytest.raises(Conflict, match="legal hold") as said:
            await refused
        assert said.value.code == "legal_hold"
    assert await site.responses.get("t", "resp_of_t")
    assert (await site.directory.tenant("t")).held_s is not None


async def test_a_hold_is_set_once_and_not_forgotten(site: Site) -> None:
    with pytest.raises(NotFound, match="no tenant 'nobody'"):
        await site.directory.hold("nobody", "x")
    with pytest.raises(Conflict, match="no legal hold"):
        await site.directory.lift("t", "x")
    await site.directory.hold("t", "case 7")
    with pytest.raises(Conflict, match="already"):
        await site.directory.hold("t", "case 8")
    await site.directory.lift("t", "settled")
    await site.directory.hold("t", "case 9")
    told = [(one.reason, one.lifted_reason) for one in await site.directory.holds("t")]
    assert told == [("case 9", None), ("case 7", "settled")]
    assert await site.count(LEGAL_HOLDS) == 2


async def test_the_lines_of_a_held_batch_stay(site: Site) -> None:
    await site.fill()
    await site.batches.settle("batch_of_t", 1, failed=False, result=b"answer")
    await site.batches.move("batch_of_t", ("validating",), "failed")
    await site.directory.hold("t", "case 7")
    await site.batches.forget_lines()
    assert await site.batches.is_held("batch_of_t")
    results = await site.batches.results("batch_of_t", 0)
    assert results[0].result == b"answer"
    await site.directory.lift("t", "settled")
    await site.batches.forget_lines()
    assert not await site.batches.is_held("batch_of_t")
    assert await site.batches.results("batch_of_t", 0) == []


async def test_what_was_begun_before_an_erasure_is_not_kept_after_it(site: Site) -> None:
    begun = site.directory.erasures_of("t")
    await site.directory.begin_erasure("t")
    completion = {"id": "chatcmpl_late", "model": "m", "metadata": {}}
    for late in (
        site.responses.add(record("late"), begun),
        site.completions.add("t", "m", completion, [], begun),
    ):
        with pytest.raises(Conflict, match="not kept") as said:
            await late
        assert said.value.code == "tenant_erased"
    await site.responses.add(record("new", expires_s=None), site.directory.erasures_of("t"))
    assert (await site.responses.get("t", "new")).id == "new"


async def test_a_removed_tenant_keeps_nothing_new(site: Site) -> None:
    await site.directory.remove_tenant("t")
    with pytest.raises(Conflict):
        await site.fill()
    incoming = site.files.begin()
    await incoming.write(b"late")
    with pytest.raises(Conflict):
        await site.files.keep(incoming, "t", "batch", "name", None)
    for late in (
        site.conversations.add("t", "c", {}, []),
        site.batches.add(batch_record("b"), 10),
        site.uploads.add("t", purpose="batch", filename="a", mime_type="b", size_bytes=4,
                         keep_s=None),
    ):  # fmt: skip
        with pytest.raises(Conflict):
            await late
    assert site.bytes_there() == set()


@pytest.mark.parametrize(("tenant", "days"), [("t", 1), ("ever", None)])
async def test_each_kind_is_kept_as_long_as_its_tenant_says(
    site: Site, tenant: str, days: int | None
) -> None:
    expires_s = None if days is None else site.now_s + days * DAY_S
    ids = await site.fill(tenant)
    assert (await site.files.get(tenant, ids["file"])).expires_s == expires_s
    conversation = await site.conversations.get(tenant, f"conv_of_{tenant}")
    assert conversation.expires_s == expires_s
    moved = await site.batches.move(f"batch_of_{tenant}", ("validating",), "failed")
    assert moved is not None
    assert moved.expires_s == expires_s
    site.now_s += DAY_S
    there = days is None
    listed = await site.completions.page(tenant, Cut(), Wanted())
    assert bool(listed.completions) is there
    assert (f"batch_of_{tenant}" in site.bytes_there()) is True
    await site.retention.sweep(site.now_s)
    assert (f"batch_of_{tenant}" in site.bytes_there()) is there
    assert await site.count(TENANTS) == 2
