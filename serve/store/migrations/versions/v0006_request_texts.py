"""Prompts and answers of tenants that want theirs kept beside the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = "request_texts"


def upgrade() -> None:
    op.create_table(
        NAME,
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("tenant", sa.String(length=80), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=True),
        sa.Column("request_id", sa.String(length=80), nullable=False),
        sa.Column("asked", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f(f"{NAME}_key")),
        sa.UniqueConstraint("id", name=op.f(f"{NAME}_unique_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(f"{NAME}_of_tenant", NAME, ["tenant", "seq"], unique=False)
    op.create_index(f"{NAME}_expiry", NAME, ["expires_s"], unique=False)
    op.create_index(f"{NAME}_of_request", NAME, ["request_id"], unique=False)


def downgrade() -> None:
    """The texts are lost, their digests in the log are not."""
    op.drop_table(NAME)
