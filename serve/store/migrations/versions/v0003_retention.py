"""Erasures and legal holds of tenants."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "tenants", sa.Column("erasures", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column("tenants", sa.Column("held_s", sa.Double(), nullable=True))
    op.add_column("conversation_items", sa.Column("removed_s", sa.Double(), nullable=True))
    op.create_table(
        "legal_holds",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.String(length=512), nullable=False),
        sa.Column("set_s", sa.Double(), nullable=False),
        sa.Column("lifted_s", sa.Double(), nullable=True),
        sa.Column("lifted_reason", sa.String(length=512), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("legal_holds_to_tenants")),
        sa.PrimaryKeyConstraint("seq", name=op.f("legal_holds_key")),
        sqlite_autoincrement=True,
    )
    op.create_index("legal_holds_of_tenant", "legal_holds", ["tenant", "seq"], unique=False)


def downgrade() -> None:
    """Holds are forgotten, and what only they kept is removed."""
    removed = "DELETE FROM conversation_items WHERE removed_s IS NOT NULL"
    op.execute(removed)
    op.drop_table("legal_holds")
    op.drop_column("conversation_items", "removed_s")
    op.drop_column("tenants", "held_s")
    op.drop_column("tenants", "erasures")
