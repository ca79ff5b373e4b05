"""The first tables."""

import secrets
import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _objects()
    _parts()
    _usage()
    _access()
    _quotas()


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


def _usage() -> None:
    """The ledger."""
    op.create_table(
        "usage_records",
        sa.Column("request_id", sa.String(length=80), nullable=False),
        sa.Column("run", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("received_s", sa.Double(), nullable=False),
        sa.Column("tenant", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("finish", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.BigInteger(), nullable=False),
        sa.Column("cached", sa.BigInteger(), nullable=False),
        sa.Column("completion", sa.BigInteger(), nullable=False),
        sa.Column("reasoning", sa.BigInteger(), nullable=False),
        sa.Column("queue_s", sa.Double(), nullable=True),
        sa.Column("ttft_s", sa.Double(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("cost_nano", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", "run", name=op.f("usage_records_key")),
    )
    op.create_index("usage_records_by_day", "usage_records", ["day", "tenant"], unique=False)
    op.create_table(
        "usage_totals",
        sa.Column("tenant", sa.String(length=80), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", name=op.f("usage_totals_key")),
    )
    op.create_index("usage_totals_by_day", "usage_totals", ["day"], unique=False)


def _access() -> None:
    """Who may ask."""
    tenants = op.create_table(
        "tenants",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("removed_s", sa.Double(), nullable=True),
        sa.Column("limits", sa.LargeBinary(), nullable=False),
        sa.Column("settings", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("tenants_key")),
    )
    none = b"{}"
    default = {"name": "default", "created_s": time.time(), "limits": none, "settings": none}
    op.bulk_insert(tenants, [default])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("tenant", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=True),
        sa.Column("revoked_s", sa.Double(), nullable=True),
        sa.Column("scopes", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("api_keys_to_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_key")),
        sa.UniqueConstraint("sha256", name=op.f("api_keys_unique_sha256")),
    )
    op.create_index("api_keys_of_tenant", "api_keys", ["tenant", "name"], unique=False)
    revisions = op.create_table(
        "revisions",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("revisions_key")),
    )
    op.bulk_insert(revisions, [{"name": "directory", "number": 0}])
    secret = op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("secrets_key")),
    )
    op.bulk_insert(secret, [{"name": "cache_salt", "value": secrets.token_bytes(32)}])


def _quotas() -> None:
    """What is used up of daily limits."""
    op.create_table(
        "quota_slots",
        sa.Column("tenant", sa.String(length=80), nullable=False),
        sa.Column("scope", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "scope", "kind", "slot", name=op.f("quota_slots_key")),
    )
    op.create_index("quota_slots_by_slot", "quota_slots", ["slot"], unique=False)
    op.create_table(
        "quota_clocks",
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("monotonic_s", sa.Double(), nullable=False),
        sa.Column("wall_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("boot", name=op.f("quota_clocks_key")),
    )
