"""Addresses of databases as a site file gives them."""

from pathlib import Path

import pytest

from serve.core.errors import SetupError
from serve.store.address import address_of

PG = "postgresql://inhouse@db/inhouse"


def test_without_one_it_lies_in_the_var_dir(tmp_path: Path) -> None:
    assert address_of(None, tmp_path).database == f"{tmp_path}/inhouse.db"


def test_a_sqlite_file(tmp_path: Path) -> None:
    url = address_of("sqlite:////srv/a.db", tmp_path)
    assert (url.drivername, url.database) == ("sqlite+pysqlite", "/srv/a.db")


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p@ss:word/\n")
    url = address_of(PG, tmp_path, secret)
    assert (url.drivername, url.password) == ("postgresql+psycopg", "p@ss:word/")


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"state\.password_file: .*none: "):
        address_of(PG, tmp_path, tmp_path / "none")
    with pytest.raises(SetupError, match="names no database"):
        address_of("postgresql://db/", tmp_path)
    with pytest.raises(SetupError, match=r"state\.database: "):
        address_of("postgresql", tmp_path)
