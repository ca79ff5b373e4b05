"""Tenants and their keys, what they have used, and what is left of their limits."""

import secrets
import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _usage()
    _access()
    _quotas()


def downgrade() -> None:
    """Keys and records are lost."""
    for name in (
        "quota_clocks", "quota_slots", "secrets", "revisions", "api_keys", "tenants",
        "usage_totals", "usage_records",
    ):  # fmt: skip
        op.drop_table(name)


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
