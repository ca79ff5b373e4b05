"""`metadata`: what a client writes on an object to know it by."""

from dataclasses import replace
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.fate import Check, Table, honoured
from serve.api.fields.shapes import nullable, pairs, text

METADATA_MAX: Final = 16
KEY_MAX_CHARS: Final = 64
VALUE_MAX_CHARS: Final = 512


def read_metadata(value: Any, param: str) -> dict[str, str]:
    """The object itself; raises InvalidRequest."""
    if type(value) is not dict:
        raise faults.wrong_type(param, "an object", value)
    if len(value) > METADATA_MAX:
        raise faults.too_long(param, "object", METADATA_MAX, len(value))
    for key, inner in value.items():
        path = f"{param}.{faults.clipped(key)}"
        checks.text(key, path, KEY_MAX_CHARS, 1)
        checks.size_bytes(key, path)
        checks.size_bytes(checks.text(inner, path, VALUE_MAX_CHARS), path)
        if "\0" in key or "\0" in inner:
            # Metadata can be looked for, and PostgreSQL has no text with one.
            raise faults.invalid(path, "it has a NUL character.")
    return value


METADATA: Final = Check(
    f"object of up to {METADATA_MAX}: {KEY_MAX_CHARS}-character keys, "
    f"{VALUE_MAX_CHARS}-character values",
    read_metadata,
    pairs(text(VALUE_MAX_CHARS), METADATA_MAX, text(KEY_MAX_CHARS, 1)),
)


ANEW: Final = replace(METADATA, schema=nullable(METADATA.schema))
"""What takes the place of an object's metadata: `null` says that it has none any more."""


def replaced(table: Table, body: object) -> dict[str, str]:
    """The metadata of an update, by its table; `null`, which must be said, is none."""
    if type(body) is dict and "metadata" in body and body["metadata"] is None:
        body = {**body, "metadata": {}}
    _, own = table.read(body)
    metadata: dict[str, str] = own["metadata"]
    return metadata


CHAT_UPDATE: Final = Table(
    "/v1/chat/completions/{completion_id}",
    ("metadata",),
    (honoured("metadata", ANEW, "Takes the place of what was there; `null` is none."),),
)


def check_chat_update(body: object) -> dict[str, str]:
    """The new metadata of a stored chat completion; raises InvalidRequest."""
    return replaced(CHAT_UPDATE, body)
