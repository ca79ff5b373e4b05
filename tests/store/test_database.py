"""Both databases, real ones: works are whole, undone alone, and done when they return."""

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import (
    Connection,
    column,
    create_engine,
    func,
    insert,
    inspect,
    select,
    table,
    text,
)

from serve.core.errors import SetupError, StorageUnavailable
from serve.state.gateways import orphaned
from serve.store.address import address_of
from serve.store.database import Database
from serve.store.migration import HEAD, migrate
from serve.store.tables import CONVERSATIONS, METADATA, RESPONSES, TENANTS


def add(name: str) -> "insert":
    return CONVERSATIONS.insert().values(id=name, tenant="t", created_s=1.0, metadata={"a": name})


def count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(CONVERSATIONS)).scalar_one())


async def test_what_was_written_is_read(database: Database) -> None:
    await database.write(lambda c: c.execute(add("one")).rowcount)
    rows = await database.read(lambda c: c.execute(select(CONVERSATIONS)).mappings().all())
    assert [(row["id"], row["metadata"]) for row in rows] == [("one", {"a": "one"})]


async def test_a_work_that_fails_is_undone_alone(database: Database) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(add("half"))
        raise LookupError("half way")

    works = [database.write(lambda c, n=n: c.execute(add(f"{n}")).rowcount) for n in range(20)]
    ended = await asyncio.gather(
        *works[:10], database.write(broken), *works[10:], return_exceptions=True
    )
    assert [type(one) for one in ended].count(LookupError) == 1
    assert await database.read(count) == 20


async def test_a_write_outlives_who_asked_for_it(database: Database) -> None:
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(connection: Connection) -> None:
        loop.call_soon_threadsafe(began.set)
        connection.execute(add("kept"))

    task = asyncio.create_task(database.write(work))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.write(lambda c: None)
    for _ in range(100):
        if await database.read(count):
            break
        await asyncio.sleep(0.02)
    assert await database.read(count) == 1


async def test_what_was_written_survives_the_process(database_url: str, tmp_path: Path) -> None:
    for expected in (1, 2):
        database = Database(address_of(database_url, tmp_path))
        database.open()
        await database.write(lambda c, n=expected: c.execute(add(f"{n}")).rowcount)
        assert await database.read(count) == expected
        database.close()


async def test_a_closed_one_says_so(database: Database) -> None:
    database.close()
    with pytest.raises(StorageUnavailable, match="stops"):
        await database.read(count)
    with pytest.raises(StorageUnavailable, match="stops"):
        await database.write(count)


async def test_a_database_that_fails(database: Database) -> None:
    works = [database.write(lambda c, n=n: c.execute(add(f"{n}")).rowcount) for n in range(20)]
    ended = await asyncio.gather(
        *works[:10], database.write(_break), *works[10:], return_exceptions=True
    )
    failed = [one for one in ended if isinstance(one, Exception)]
    assert [type(one) for one in failed] == [StorageUnavailable]
    assert await database.read(count) == 20, "the others are done all the same"


def _break(connection: Connection) -> None:
    """A full disk, or a server that goes away, as a work meets it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    try:
        connection.execute(add("large" * 10), {"metadata": {"a": "x" * 100_000}})
    finally:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")


async def test_the_migrations_make_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    assert await database.read(differences) == []


def test_an_older_database_keeps_what_it_holds(database_url: str) -> None:
    """Up from every version, and down to it again, with a row in it."""
    engine = create_engine(address_of(database_url, Path()))
    config = Config()
    config.set_main_option("script_location", "serve.store:migrations")
    config.set_main_option("path_separator", "os")
    kept = [{"id": "conv_1", "tenant": "t", "created_s": 1.0, "metadata": {"a": "b"}}]
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            connection.execute(CONVERSATIONS.insert(), kept)
        migrate(engine)
        with engine.begin() as connection:
            names = connection.execute(select(TENANTS.c.name)).scalars().all()
            assert names == ["default"]
            config.attributes["connection"] = connection
            command.downgrade(config, "0001")
            row = connection.execute(select(CONVERSATIONS.c.id, CONVERSATIONS.c.metadata)).one()
            assert row == ("conv_1", {"a": "b"})
            command.downgrade(config, "base")
            assert inspect(connection).get_table_names() == ["alembic_version"]
    finally:
        engine.dispose()


async def test_a_newer_database_is_left_alone(database: Database, database_url: str) -> None:
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await database.write(lambda c: c.execute(newer).rowcount)
    with pytest.raises(
        SetupError, match=f"9999, which a newer Inhouse made; this one knows {HEAD}"
    ):
        Database(address_of(database_url, Path())).open()


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "inhouse.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(SetupError, match=r"inhouse\.db: file is not a database"):
        Database(address_of(None, tmp_path)).open()
    gone = f"postgresql://nobody@/none?host={tmp_path}"
    with pytest.raises(SetupError, match="No such file or directory"):
        Database(address_of(gone, tmp_path)).open()


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    database = Database(address_of(None, tmp_path))
    database.open()
    assert (tmp_path / "inhouse.db").stat().st_mode & 0o077 == 0
    database.close()


def test_what_an_older_server_left_unfinished_can_be_taken_over(database_url: str) -> None:
    engine = create_engine(address_of(database_url, Path()))
    config = Config()
    config.set_main_option("script_location", "serve.store:migrations")
    config.set_main_option("path_separator", "os")
    columns = ("seq", "id", "tenant", "created_s", "status", "background", "body", "items",
               "output")  # fmt: skip
    rows = [
        dict(zip(columns, (n, status, "t", 1.0, status, True, b"{}", b"[]", b"[]"), strict=True))
        for n, status in enumerate(("queued", "in_progress", "completed"), 1)
    ]
    older = table("responses", *(column(name) for name in columns))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0003")
            connection.execute(insert(older), rows)
        migrate(engine)
        with engine.begin() as connection:
            assert {name for name, _ in orphaned(connection, RESPONSES)} == {
                "queued", "in_progress",
            }  # fmt: skip
    finally:
        engine.dispose()
