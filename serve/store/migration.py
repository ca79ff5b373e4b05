"""Brings a database's tables to this version's form, once, at the start."""

import logging
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from serve.core.errors import SetupError

HEAD: Final = "0006"
"""The newest version in `migrations/versions`."""

_LOCK: Final = 0x1A0F_0C5E
"""Number of our own among PostgreSQL's advisory locks: one server migrates, others wait."""


def migrate(engine: Engine) -> None:
    """Create or alter the tables; nothing happens where they are as they should be.

    Raises SetupError where a newer version of this server has been there.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        found = _version(connection)
        if found == HEAD:
            return
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # Imported where it is needed: most starts find everything as it should be.
        from alembic import command  # noqa: PLC0415 - see above
        from alembic.config import Config  # noqa: PLC0415 - see above
        from alembic.script import ScriptDirectory  # noqa: PLC0415 - see above

        config = Config()
        config.set_main_option("script_location", "serve.store:migrations")
        config.set_main_option("path_separator", "os")
        known = {one.revision for one in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise SetupError(
                f"state.database: its tables are of version {found}, which a newer Inhouse made; "
                f"this one knows {HEAD}. Start that one, or name another database."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
