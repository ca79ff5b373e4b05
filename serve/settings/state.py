"""What the server keeps for its clients: where, and for how long."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from serve.settings.terms import IN_WORDS, Frozen

SQLITE_PREFIX: Final = "sqlite:///"
DatabaseUrl = Annotated[
    str,
    Field(
        pattern=r"^(sqlite:///|postgresql://[^/]*/).{1,1000}$",
        json_schema_extra={IN_WORDS: "`sqlite:///PATH` or `postgresql://USER@HOST/NAME`"},
    ),
]


class Retention(Frozen):
    """How long one tenant's objects are kept."""

    ttl_days: float | None = Field(
        default=30,
        gt=0,
        le=36_500,
        description="Days that responses, conversations and stored completions are kept after "
        "their last change, files after they were made, and batches after their end; `null` keeps "
        "them until they are deleted.",
    )


class State(Frozen):
    """Stored responses, conversations, files and batches."""

    database: DatabaseUrl | None = Field(
        default=None,
        description="`sqlite:///PATH`, relative to `root`, or `postgresql://USER@HOST/NAME`; "
        "without it, `inhouse.db` in `var_dir`.",
    )
    password_file: Path | None = Field(
        default=None,
        description="File with PostgreSQL's password, so that it is not in this file. Relative "
        "to `root`.",
    )
    ttl_days: float | None = Field(
        default=30,
        gt=0,
        le=36_500,
        description="Days that responses, conversations and stored completions are kept after "
        "their last change, files after they were made, and batches after their end; `null` keeps "
        "them until they are deleted.",
    )
    tenants: dict[str, Retention] = Field(
        default={}, max_length=1000, description="Tenants with another `ttl_days`."
    )

    def ttl_s(self, tenant: str) -> float | None:
        """Seconds that this tenant's objects are kept; None is for ever."""
        days = self.tenants[tenant].ttl_days if tenant in self.tenants else self.ttl_days
        return None if days is None else days * 86_400
