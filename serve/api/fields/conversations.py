"""Bodies of `/v1/conversations`: their tables."""

from typing import Any, Final

from serve.api.fields import faults
from serve.api.fields.fate import Check, Table, honoured
from serve.api.fields.metadata import ANEW, METADATA, replaced
from serve.api.fields.responses.items import read_items
from serve.api.fields.responses.shapes import ITEM
from serve.api.fields.shapes import array

ITEMS_MAX: Final = 20
"""In one request; a conversation may have more."""

JSON = dict[str, Any]


def _items(value: Any, param: str) -> tuple[JSON, ...]:
    items = read_items(value, param, ITEMS_MAX)
    for place, item in enumerate(items):
        if item["type"] == "item_reference":
            raise faults.unsupported_value(
                f"{param}[{place}].type", "item_reference", "send the item itself."
            )
    return items


_ITEMS: Final = Check(
    f"array of 0 to {ITEMS_MAX} input items, as `input` of `/v1/responses` has them",
    _items,
    array(ITEM, ITEMS_MAX),
)
_NOTE: Final = "Each gets an id where it has none. References to other items are refused."

CONVERSATION: Final = Table(
    "/v1/conversations",
    (),
    (
        honoured("items", _ITEMS, _NOTE),
        honoured("metadata", METADATA, "Kept with the conversation."),
    ),
)
CONVERSATION_UPDATE: Final = Table(
    "/v1/conversations/{conversation_id}",
    ("metadata",),
    (honoured("metadata", ANEW, "Takes the place of what was there; `null` is none."),),
)
CONVERSATION_ITEMS: Final = Table(
    "/v1/conversations/{conversation_id}/items",
    ("items",),
    (honoured("items", _ITEMS, _NOTE),),
)


def check_conversation(body: object) -> tuple[tuple[JSON, ...], dict[str, str]]:
    """First items and metadata of a new conversation; raises InvalidRequest."""
    _, own = CONVERSATION.read(body)
    return own.get("items", ()), own.get("metadata", {})


def check_conversation_update(body: object) -> dict[str, str]:
    """The new metadata; raises InvalidRequest."""
    return replaced(CONVERSATION_UPDATE, body)


def check_conversation_items(body: object) -> tuple[JSON, ...]:
    """Items to add; raises InvalidRequest."""
    _, own = CONVERSATION_ITEMS.read(body)
    items: tuple[JSON, ...] = own["items"]
    return items
