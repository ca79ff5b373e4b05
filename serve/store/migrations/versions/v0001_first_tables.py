"""What clients keep: responses, conversations, completions, files, uploads, batches."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _objects()
    _parts()


def downgrade() -> None:
    """Nothing is left."""
    for name in (
        "upload_parts", "response_events", "conversation_items", "completion_metadata",
        "batch_lines", "uploads", "responses", "files", "conversations", "completions", "batches",
    ):  # fmt: skip
        op.drop_table(name)


def _kept(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        name,
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("tenant", sa.String(length=80), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=True),
        *columns,
        sa.PrimaryKeyConstraint("seq", name=op.f(f"{name}_key")),
        sa.UniqueConstraint("id", name=op.f(f"{name}_unique_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(f"{name}_expiry", name, ["expires_s"], unique=False)
    op.create_index(f"{name}_of_tenant", name, ["tenant", "seq"], unique=False)


def _objects() -> None:
    """What clients list, and what expires."""
    _kept(
        "batches",
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("deadline_s", sa.Double(), nullable=False),
        sa.Column("output_keep_s", sa.Double(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    _kept(
        "completions",
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("asked", sa.String(length=256), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("messages", sa.LargeBinary(), nullable=False),
    )
    _kept(
        "conversations",
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
    )
    _kept(
        "files",
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("filename", sa.String(length=512), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
    )
    _kept(
        "responses",
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("background", sa.Boolean(), nullable=False),
        sa.Column("previous_id", sa.String(length=80), nullable=True),
        sa.Column("conversation", sa.String(length=80), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("items", sa.LargeBinary(), nullable=False),
        sa.Column("output", sa.LargeBinary(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=True),
    )
    _kept(
        "uploads",
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("filename", sa.String(length=512), nullable=False),
        sa.Column("mime_type", sa.String(length=128), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("keep_s", sa.Double(), nullable=True),
        sa.Column("file", sa.String(length=80), nullable=True),
    )


def _parts() -> None:
    """What belongs to one of those."""
    op.create_table(
        "batch_lines",
        sa.Column("batch", sa.String(length=80), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("custom_id", sa.String(length=512), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch"], ["batches.id"], name=op.f("batch_lines_to_batches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch", "line", name=op.f("batch_lines_key")),
        sa.UniqueConstraint("batch", "custom_id", name=op.f("batch_lines_unique_batch_custom_id")),
    )
    op.create_table(
        "completion_metadata",
        sa.Column("completion", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(
            ["completion"],
            ["completions.id"],
            name=op.f("completion_metadata_to_completions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("completion", "key", name=op.f("completion_metadata_key")),
    )
    op.create_table(
        "conversation_items",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("conversation", sa.String(length=80), nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation"],
            ["conversations.id"],
            name=op.f("conversation_items_to_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("conversation_items_key")),
        sa.UniqueConstraint(
            "conversation", "id", name=op.f("conversation_items_unique_conversation_id")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "conversation_items_in_order", "conversation_items", ["conversation", "seq"], unique=False
    )
    op.create_table(
        "response_events",
        sa.Column("response", sa.String(length=80), nullable=False),
        sa.Column("sequence_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("frame", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["response"],
            ["responses.id"],
            name=op.f("response_events_to_responses"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("response", "sequence_number", name=op.f("response_events_key")),
    )
    op.create_table(
        "upload_parts",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("upload", sa.String(length=80), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload"], ["uploads.id"], name=op.f("upload_parts_to_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("upload_parts_key")),
    )
    op.create_index("upload_parts_of_upload", "upload_parts", ["upload"], unique=False)
