"""Stores that forget when the process ends."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serve.core.errors import Conflict, InvalidRequest, NotFound, StorageUnavailable
from serve.state.records import Event, ResponseRecord

JSON = dict[str, Any]


class MemoryResponses:
    """Responses by tenant and id; while `down`, nothing can be written."""

    def __init__(self) -> None:
        self.records: dict[str, ResponseRecord] = {}
        self.kept: dict[str, list[Event]] = {}
        self.down = False
        self.erasures = 0

    async def add(self, record: ResponseRecord, begun: int | None = None) -> None:
        await self._write()
        if begun != self.erasures:
            raise Conflict("erased", code="tenant_erased")
        self.records[record.id] = replace(record, body=dict(record.body))

    async def put(self, record: ResponseRecord) -> bool:
        await self._write()
        if record.id not in self.records:
            return False
        self.records[record.id] = replace(record, body=dict(record.body))
        return True

    async def get(self, tenant: str, response_id: str) -> ResponseRecord:
        record = self.records.get(response_id)
        if record is None or record.tenant != tenant:
            raise NotFound(f"Response with id '{response_id}' not found.")
        return record

    async def history(self, tenant: str, response_id: str) -> tuple[JSON, ...]:
        record = await self.get(tenant, response_id)
        before = () if record.previous_id is None else await self.history(
            tenant, record.previous_id
        )  # fmt: skip
        return (*before, *record.items, *record.body["output"])

    async def delete(self, tenant: str, response_id: str) -> None:
        await self.get(tenant, response_id)
        del self.records[response_id]
        self.kept.pop(response_id, None)

    async def append_events(self, response_id: str, events: Sequence[Event]) -> bool:
        await self._write()
        if response_id not in self.records:
            return False
        known = self.kept.setdefault(response_id, [])
        assert [e.sequence_number for e in events] == list(
            range(len(known), len(known) + len(events))
        )
        known += events
        return True

    async def events(self, tenant: str, response_id: str, after: int) -> list[Event]:
        await self.get(tenant, response_id)
        return [e for e in self.kept.get(response_id, []) if e.sequence_number > after]

    async def take_over(self) -> list[ResponseRecord]:
        return [r for r in self.records.values() if r.status in ("queued", "in_progress")]

    async def _write(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StorageUnavailable("the disk is full")


class MemoryConversations:
    """Conversations of one tenant."""

    def __init__(self) -> None:
        self.all: dict[str, list[JSON]] = {}
        self.turns: dict[str, str] = {}

    async def items(self, tenant: str, conversation_id: str) -> tuple[JSON, ...]:
        del tenant
        if conversation_id not in self.all:
            raise NotFound(f"Conversation with id '{conversation_id}' not found.")
        return tuple(self.all[conversation_id])

    async def begin_turn(self, tenant: str, conversation_id: str, turn_id: str) -> None:
        await self.items(tenant, conversation_id)
        if self.turns.setdefault(conversation_id, turn_id) != turn_id:
            raise InvalidRequest("a turn runs", param="conversation", code="conversation_locked")

    async def end_turn(self, conversation_id: str, turn_id: str) -> None:
        if self.turns.get(conversation_id) == turn_id:
            del self.turns[conversation_id]


class MemoryEnds:
    """Ends of turns, in both of those."""

    def __init__(self, responses: MemoryResponses, conversations: MemoryConversations) -> None:
        self._responses = responses
        self._conversations = conversations

    async def close(
        self, record: ResponseRecord, items: Sequence[JSON], begun: int | None, *, stored: bool
    ) -> bool:
        if stored and record.background:
            if not await self._responses.put(record):
                return False
        elif stored:
            await self._responses.add(record, begun)
        if record.conversation is not None:
            await self._conversations.items(record.tenant, record.conversation)
            self._conversations.all[record.conversation] += items
            await self._conversations.end_turn(record.conversation, record.id)
        return True
