"""Where the database is, from what the site file says."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from serve.core.errors import SetupError


def address_of(database: str | None, var_dir: Path, password_file: Path | None = None) -> URL:
    """The database's address with its driver; without one, a file in `var_dir`.

    Raises SetupError for an address that is none, and a password file that cannot be read.
    """
    if database is None:
        return URL.create("sqlite+pysqlite", database=str(var_dir / "inhouse.db"))
    try:
        url = make_url(database)
    except (ArgumentError, ValueError) as error:
        raise SetupError(f"state.database: {error}") from None
    if not url.database:
        raise SetupError("state.database: names no database; write postgresql://USER@HOST/NAME")
    if url.drivername == "sqlite":
        return url.set(drivername="sqlite+pysqlite")
    if password_file is not None:
        try:
            url = url.set(password=password_file.read_text().rstrip("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise SetupError(f"state.password_file: {password_file}: {error}") from None
    return url.set(drivername="postgresql+psycopg")
