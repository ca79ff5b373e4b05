"""Who may use what is kept: one server a SQLite file, several a PostgreSQL."""

from pathlib import Path

import pytest

from serve.core.errors import SetupError
from serve.settings.state import State
from serve.state.storage import Storage
from tests import postgres as pg


async def test_a_sqlite_database_has_one_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/kept.db"
    first, second = (Storage(State(database=url), tmp_path / name) for name in "ab")
    await first.open()
    with pytest.raises(SetupError, match=r"kept\.db is in use by another server.*PostgreSQL"):
        await second.open()
    await first.close()
    await second.open()
    assert second.database.exclusive
    await second.close()


async def test_a_postgresql_takes_several(postgres: str, tmp_path: Path) -> None:
    url = pg.create(postgres, "several")
    first, second = (Storage(State(database=url), tmp_path / name) for name in "ab")
    await first.open()
    await second.open()
    assert not first.database.exclusive
    await second.close()
    await first.close()
