"""The latest responses, in memory: a conversation's next turn seldom needs the database.

Reading a chain takes a thread of its own, and that thread and the event loop take turns at the
interpreter for as many times as the chain has rows. Most turns go on from a response that this
process has just written.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import orjson

from serve.state.records import JSON, ResponseRecord

RECENT_MAX_BYTES: Final = 64 * 2**20
"""Of items as JSON; as objects they take a few times as much."""


@dataclass(frozen=True, slots=True)
class _Entry:
    tenant: str
    previous_id: str | None
    items: tuple[JSON, ...]
    expires_s: float | None
    size_bytes: int


class Recent:
    """Whoever changes or removes a response in the database says so here."""

    def __init__(self, max_bytes: int = RECENT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def remember(self, record: ResponseRecord) -> None:
        """It has been written as it is here."""
        self.forget(record.id)
        items = (*record.items, *record.body["output"])
        size_bytes = len(orjson.dumps(items))
        self._entries[record.id] = _Entry(
            record.tenant, record.previous_id, items, record.expires_s, size_bytes
        )
        self._bytes += size_bytes
        while self._bytes > self._max_bytes:
            self._bytes -= self._entries.popitem(last=False)[1].size_bytes

    def forget(self, response_id: str) -> None:
        """It is gone, or is about to be something else."""
        entry = self._entries.pop(response_id, None)
        if entry is not None:
            self._bytes -= entry.size_bytes

    def clear(self) -> None:
        """Many are gone."""
        self._entries.clear()
        self._bytes = 0

    def chain(self, tenant: str, response_id: str, now_s: float) -> tuple[JSON, ...] | None:
        """All items of the chain that ends in this response, oldest first.

        None where the database must be asked: for want of a part of it, or for the right error.
        """
        parts: list[tuple[JSON, ...]] = []
        seen: set[str] = set()
        at: str | None = response_id
        while at is not None:
            entry = self._entries.get(at)
            if entry is None or at in seen or entry.tenant != tenant:
                return None
            if entry.expires_s is not None and entry.expires_s <= now_s:
                return None
            self._entries.move_to_end(at)
            seen.add(at)
            parts.append(entry.items)
            at = entry.previous_id
        return tuple(item for part in reversed(parts) for item in part)
