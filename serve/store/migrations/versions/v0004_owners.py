"""Which gateway works on what, and which turn a conversation is taking."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

OWNED = ("responses", "batches", "conversations")
UNFINISHED = {
    "responses": ("queued", "in_progress"),
    "batches": ("validating", "in_progress", "finalizing", "cancelling"),
}
NOBODY = "nobody"
"""An owner that never lives: what was left unfinished is taken up by the first gateway."""


def upgrade() -> None:
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("gateways_key")),
    )
    op.add_column("conversations", sa.Column("turn", sa.String(length=80), nullable=True))
    for name in OWNED:
        op.add_column(name, sa.Column("owner", sa.String(length=64), nullable=True))
        op.create_index(f"{name}_owned", name, ["owner"], unique=False)
    for name, statuses in UNFINISHED.items():
        table = sa.table(name, sa.column("owner"), sa.column("status"))
        left = sa.update(table).where(table.c.status.in_(statuses))
        op.execute(left.values(owner=NOBODY))


def downgrade() -> None:
    for name in OWNED:
        op.drop_index(f"{name}_owned", name)
        op.drop_column(name, "owner")
    op.drop_column("conversations", "turn")
    op.drop_table("gateways")
