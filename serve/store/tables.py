"""Every table. What clients are shown is kept as the JSON that they are shown.

`seq` orders objects as they were made, for paging; ids are what clients know. Times are Unix
seconds, `expires_s` null is for ever.
"""

from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)


class Json(TypeDecorator[Any]):
    """JSON as the bytes that orjson makes: nothing in the database looks into it."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        del dialect
        return None if value is None else orjson.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        del dialect
        return None if value is None else orjson.loads(value)


METADATA: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_key",
        "uq": "%(table_name)s_unique_%(column_0_N_name)s",
        "fk": "%(table_name)s_to_%(referred_table_name)s",
    }
)
ID: Final = String(80)
TENANT: Final = String(80)
OWNER: Final = String(64)
_SERIAL: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers INTEGER keys only


def _kept(name: str, *columns: Column[Any] | Index) -> Table:
    """A table of objects that clients list, and that expire."""
    return Table(
        name,
        METADATA,
        Column("seq", _SERIAL, primary_key=True, autoincrement=True),
        Column("id", ID, nullable=False, unique=True),
        Column("tenant", TENANT, nullable=False),
        Column("created_s", Double, nullable=False),
        Column("expires_s", Double),
        *columns,
        Index(f"{name}_of_tenant", "tenant", "seq"),
        Index(f"{name}_expiry", "expires_s"),
        # A number that was given once is not given again: pages are told by it.
        sqlite_autoincrement=True,
    )


RESPONSES: Final = _kept(
    "responses",
    Column("status", String(16), nullable=False),
    Column("background", Boolean, nullable=False),
    Column("previous_id", ID),
    Column("conversation", ID),
    Column("body", Json, nullable=False),
    Column("items", Json, nullable=False),
    Column("output", Json, nullable=False),
    Column("request", Json),
    Column("owner", OWNER),
    Index("responses_owned", "owner"),
)
"""Stored responses. `items` are the input items of this turn only, `body` lacks `output`: a
history is read from those two. `owner` is the gateway that works on it, null once it has ended."""

RESPONSE_EVENTS: Final = Table(
    "response_events",
    METADATA,
    Column("response", ID, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence_number", Integer, primary_key=True, autoincrement=False),
    Column("frame", LargeBinary, nullable=False),
)
"""What a background response has streamed so far."""

CONVERSATIONS: Final = _kept(
    "conversations",
    Column("metadata", Json, nullable=False),
    Column("turn", ID),
    Column("owner", OWNER),
    Index("conversations_owned", "owner"),
)
"""`turn` is the response that is being made in it, `owner` the gateway that makes it."""

CONVERSATION_ITEMS: Final = Table(
    "conversation_items",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("conversation", ID, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("id", String(256), nullable=False),
    Column("body", Json, nullable=False),
    Column("removed_s", Double),
    UniqueConstraint("conversation", "id"),
    Index("conversation_items_in_order", "conversation", "seq"),
    sqlite_autoincrement=True,
)
"""`removed_s`: when a client deleted it, where a legal hold keeps it; its id is free again."""

COMPLETIONS: Final = _kept(
    "completions",
    Column("model", String(256), nullable=False),
    Column("asked", String(256), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("body", Json, nullable=False),
    Column("messages", Json, nullable=False),
)
"""Stored chat completions. `asked` is the name that the request gave the model, `body` lacks
`metadata`."""

REQUEST_TEXTS: Final = _kept(
    "request_texts",
    Column("request_id", ID, nullable=False),
    Column("asked", Json, nullable=False),
    Column("answer", Json),
    Column("receipt", Json, nullable=False),
    Index("request_texts_of_request", "request_id"),
)
"""What was asked and answered, for tenants that want it kept. `receipt` is what the audit log has
of it."""

COMPLETION_METADATA: Final = Table(
    "completion_metadata",
    METADATA,
    Column("completion", ID, ForeignKey("completions.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), nullable=False),
)
"""The same metadata again, to be looked for."""

FILES: Final = _kept(
    "files",
    Column("purpose", String(32), nullable=False),
    Column("filename", String(512), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", String(80), nullable=False),
)
"""Files' bytes lie in a folder, under their id."""

UPLOADS: Final = _kept(
    "uploads",
    Column("status", String(16), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("filename", String(512), nullable=False),
    Column("mime_type", String(128), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("keep_s", Double),
    Column("file", ID),
)
"""`keep_s`: how long the file that it becomes is kept; null: as long as the tenant's files are."""

UPLOAD_PARTS: Final = Table(
    "upload_parts",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("upload", ID, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Index("upload_parts_of_upload", "upload"),
)

BATCHES: Final = _kept(
    "batches",
    Column("status", String(16), nullable=False),
    Column("key", String(80), nullable=False),
    Column("deadline_s", Double, nullable=False),
    Column("output_keep_s", Double),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("body", Json, nullable=False),
    Column("owner", OWNER),
    Index("batches_owned", "owner"),
)
"""`total`, `completed` and `failed` count lines, and are not in `body`; `output_keep_s`: how long
the files of results are kept, null: as long as the tenant's files are.
`owner` is the gateway that works on it, null once it has ended."""

GATEWAYS: Final = Table(
    "gateways",
    METADATA,
    Column("id", OWNER, primary_key=True),
    Column("beat", BigInteger, nullable=False),
)
"""Gateways that are there. `beat` grows while one lives; one that stands still is taken out by the
others, and what it owned is theirs."""

BATCH_LINES: Final = Table(
    "batch_lines",
    METADATA,
    Column("batch", ID, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("custom_id", String(512), nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("failed", Boolean),
    Column("result", LargeBinary),
    UniqueConstraint("batch", "custom_id"),
)
"""Lines of a batch's input file, and where in it they are; `result` is the line of the file of
results, null while it is still to be run."""

USAGE_RECORDS: Final = Table(
    "usage_records",
    METADATA,
    Column("request_id", ID, primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Integer, nullable=False),
    Column("received_s", Double, nullable=False),
    Column("tenant", TENANT, nullable=False),
    Column("key", String(80), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("model", String(256), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("finish", String(64), nullable=False),
    Column("prompt", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("completion", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
    Column("queue_s", Double),
    Column("ttft_s", Double),
    Column("duration_s", Double),
    Column("cost_nano", BigInteger),
    Index("usage_records_by_day", "day", "tenant"),
)
"""One row for each admitted request; `run` tells apart what one request had done in several runs.
`day` counts from 1970-01-01 in UTC; `cost_nano` is in billionths, null without a price."""

USAGE_TOTALS: Final = Table(
    "usage_totals",
    METADATA,
    Column("tenant", TENANT, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Index("usage_totals_by_day", "day"),
)
"""The sums of those records that budgets are told by: prompts and answers together."""

QUOTA_SLOTS: Final = Table(
    "quota_slots",
    METADATA,
    Column("tenant", TENANT, primary_key=True),
    Column("scope", String(80), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("amount", BigInteger, nullable=False),
    Index("quota_slots_by_slot", "slot"),
)
"""What tenants took in five minutes each, for their daily limits. `slot` counts them since 1970, by
the clock of `quota_clocks`; `scope` is a model, or empty for all of them together."""

TENANTS: Final = Table(
    "tenants",
    METADATA,
    Column("name", TENANT, primary_key=True),
    Column("created_s", Double, nullable=False),
    Column("removed_s", Double),
    Column("limits", Json, nullable=False),
    Column("settings", Json, nullable=False),
    Column("erasures", Integer, nullable=False, default=0, server_default="0"),
    Column("held_s", Double),
)
"""`limits` and `settings` are a tenant's own. One that is removed stays, so that its name is not
given to another, who would be taken for it. `erasures` counts how often what it keeps has been
erased; `held_s` is since when a legal hold stands."""

LEGAL_HOLDS: Final = Table(
    "legal_holds",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("tenant", TENANT, ForeignKey("tenants.name"), nullable=False),
    Column("reason", String(512), nullable=False),
    Column("set_s", Double, nullable=False),
    Column("lifted_s", Double),
    Column("lifted_reason", String(512)),
    Index("legal_holds_of_tenant", "tenant", "seq"),
    sqlite_autoincrement=True,
)
"""Those that stand and those that stood: a hold that has been lifted is not forgotten."""

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("tenant", TENANT, ForeignKey("tenants.name"), nullable=False),
    Column("name", String(80), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("created_s", Double, nullable=False),
    Column("expires_s", Double),
    Column("revoked_s", Double),
    Column("scopes", Json, nullable=False),
    Index("api_keys_of_tenant", "tenant", "name"),
)

REVISIONS: Final = Table(
    "revisions",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""Numbers that grow when what they are named after changes: who keeps a copy looks at them."""

SECRETS: Final = Table(
    "secrets",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""Random bytes, made once for each database."""

IDEMPOTENCY_KEYS: Final = _kept(
    "idempotency_keys",
    Column("owner", OWNER),
    Column("digest", String(64)),
    Column("size_bytes", BigInteger),
    Column("status", Integer),
    Column("headers", Json),
    Column("body", LargeBinary),
)
"""`owner` is the gateway that runs the request; all that follows it is null until it has."""

QUOTA_CLOCKS: Final = Table(
    "quota_clocks",
    METADATA,
    Column("boot", String(64), primary_key=True),
    Column("monotonic_s", Double, nullable=False),
    Column("wall_s", Double, nullable=False),
)
"""The time of day when quotas were first counted in one start of a machine."""
