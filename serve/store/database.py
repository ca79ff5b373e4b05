"""One database, SQLite or PostgreSQL, behind two verbs: `read` and `write`.

A unit of work is a plain function of a connection. It runs in a thread, so that the event loop
never waits for a disk, and whole: one hop between threads each, however many statements it has.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import (
    DataError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)

from serve.core.errors import InvalidRequest, SetupError, StorageUnavailable
from serve.store.claim import claimed
from serve.store.migration import migrate
from serve.store.writer import GroupWriter

log = logging.getLogger("inhouse.store")

A = TypeVar("A")
T = TypeVar("T")
Work = Callable[[Connection], T]

READERS: Final = 4
"""Threads, and connections, that read at once."""
BUSY_TIMEOUT_S: Final = 10


class Database:
    """Open it before use, close it after.

    On SQLite one connection writes, many works a transaction (`serve.store.writer`), and others
    read; on PostgreSQL each work has a transaction of its own. A write has been committed when it
    returns. Both raise StorageUnavailable where the database cannot do it now, and InvalidRequest
    for a value that it cannot hold.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._sqlite = url.get_backend_name() == "sqlite"
        self._engines: list[Engine] = []
        self._readers: Engine | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._writer: GroupWriter | None = None
        self._claimed: IO[bytes] | None = None

    @property
    def exclusive(self) -> bool:
        """Whether one server alone may use it (see `claim`)."""
        return self._sqlite

    def claim(self) -> None:
        """Be the one server of a SQLite database until it is closed; PostgreSQL takes several.

        Raises SetupError where another has it.
        """
        if not self._sqlite:
            return
        self._claimed = claimed(
            Path(f"{self._url.database}.server"),
            f"state.database: {self._url.database} is in use by another server; servers that "
            "share a database need PostgreSQL",
        )

    def open(self) -> None:
        """Connect and bring the tables up to date; blocks.

        Raises SetupError where that cannot be done.
        """
        shown = self._url.render_as_string(hide_password=True)
        try:
            writing = self._engine(query_only=False)
            migrate(writing)
            self._readers = self._engine(query_only=True) if self._sqlite else writing
        except (SQLAlchemyError, OSError) as error:
            self.close()
            raise SetupError(f"state.database: {shown}: {_in_words(error)}") from None
        except SetupError:
            self.close()
            raise
        self._pool = ThreadPoolExecutor(READERS, "store")
        self._writer = GroupWriter(writing) if self._sqlite else None

    def close(self) -> None:
        """Finish what was begun and let go of the database; blocks."""
        if self._writer is not None:
            self._writer.close()
        if self._pool is not None:
            self._pool.shutdown()
        for engine in self._engines:
            engine.dispose()
        self._engines.clear()
        if self._claimed is not None:
            self._claimed.close()
        self._claimed = None
        self._readers = self._pool = self._writer = None

    async def read(self, work: Work[T]) -> T:
        """Run a work that changes nothing."""
        return await self._in_thread(self._read, work)

    async def write(self, work: Work[T]) -> T:
        """Run a work whole or not at all; what it raises undoes what it did, and is raised here.

        A write that was begun is finished, even where nobody waits for it any more.
        """
        with _unavailable():
            if self._writer is not None:
                return await self._writer.write(work)
            return await asyncio.shield(self._in_thread(self._write, work))

    async def sync(self) -> None:
        """What has been written is on the disk when this returns, even if the power fails then.

        Raises StorageUnavailable.
        """
        if self._sqlite:
            await self._in_thread(_sync, Path(f"{self._url.database}-wal"))

    async def _in_thread(self, run: Callable[[A], T], work: A) -> T:
        if self._pool is None:
            raise StorageUnavailable("the database is not open: this server starts or stops")
        return await asyncio.get_running_loop().run_in_executor(self._pool, run, work)

    def _read(self, work: Work[T]) -> T:
        assert self._readers is not None
        with _unavailable(), self._readers.connect() as connection:
            return work(connection)

    def _write(self, work: Work[T]) -> T:
        assert self._readers is not None
        with _unavailable(), self._readers.begin() as connection:
            return work(connection)

    def _engine(self, *, query_only: bool) -> Engine:
        if self._sqlite:
            engine = _sqlite_engine(self._url, query_only=query_only)
        else:
            engine = create_engine(self._url, pool_pre_ping=True, pool_size=READERS)
        self._engines.append(engine)
        return engine


def _sqlite_engine(url: URL, *, query_only: bool) -> Engine:
    """A pool of connections in write-ahead mode, which lets readers read while one writes."""
    assert url.database
    path = Path(url.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
    engine = create_engine(
        url,
        pool_size=READERS if query_only else 1,
        max_overflow=0,
        # Transactions are begun below: the driver would begin them late, and never for a read.
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        # Durable across a crash of the process with NORMAL; power loss may cost the last moment.
        for pragma in (
            "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON",
            f"query_only={'ON' if query_only else 'OFF'}",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if query_only else "BEGIN IMMEDIATE")

    return engine


def _sync(log_file: Path) -> None:
    """What a checkpoint has moved from the log into the database, it has synced there itself."""
    try:
        fd = os.open(log_file, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageUnavailable(f"the database's disk fails: {error.strerror}") from error


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    """What the database's driver says, as an error of ours."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError) as error:
        log.error("the database failed: %s", _in_words(error))
        raise StorageUnavailable("what this server keeps cannot be reached; try again") from error
    except DataError as error:
        # A NUL, for PostgreSQL: no text of its own has one.
        raise InvalidRequest(
            f"A value of the request cannot be kept, or looked for: {_in_words(error)}"
        ) from None


def _in_words(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:500]
