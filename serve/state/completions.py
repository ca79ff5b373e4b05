"""Stored chat completions: the answers, the messages they answer, and metadata to find them by."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, or_, select

from serve.core.errors import NotFound
from serve.state import custody
from serve.state.page import Cut, page_of
from serve.state.records import JSON
from serve.store.database import Database
from serve.store.tables import COMPLETION_METADATA, COMPLETIONS


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which completions a list has: of a model, by its id or the name a request gave it, and with
    all of this metadata."""

    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompletionPage:
    """`has_more`: others follow in the list's order."""

    completions: tuple[JSON, ...]
    has_more: bool


class Completions:
    """Completions by tenant: another tenant's, a deleted and an expired one do not exist.

    They are kept and given as the objects that clients see. `wall_s` is the time that expiry is
    told by; `ttl_s` how long a tenant's are kept after their last change, None for ever.
    """

    def __init__(
        self,
        database: Database,
        ttl_s: Callable[[str], float | None],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._ttl_s = ttl_s
        self._wall_s = wall_s

    async def add(
        self,
        tenant: str,
        asked: str,
        completion: JSON,
        messages: Sequence[JSON],
        begun: int | None = None,
    ) -> None:
        """Keep a completion with its `metadata`, and the messages that it answers.

        `begun`: the tenant's erasures when the request came. Raises Conflict where it has been
        erased since.
        """
        now_s = self._wall_s()
        body = {name: value for name, value in completion.items() if name != "metadata"}
        metadata: Mapping[str, str] = completion["metadata"]
        values = {
            "id": completion["id"],
            "tenant": tenant,
            "created_s": now_s,
            "expires_s": self._expiry(tenant, now_s),
            "model": completion["model"],
            "asked": asked,
            "metadata": metadata,
            "body": body,
            "messages": list(messages),
        }

        def work(connection: Connection) -> None:
            custody.admit(connection, tenant, begun)
            connection.execute(COMPLETIONS.insert(), values)
            _label(connection, completion["id"], metadata)

        await self._database.write(work)

    async def get(self, tenant: str, completion_id: str) -> JSON:
        """Raises NotFound."""
        return await self._database.read(
            lambda connection: self._found(connection, tenant, completion_id)
        )

    async def messages(self, tenant: str, completion_id: str) -> tuple[JSON, ...]:
        """The messages that it answers, in their order. Raises NotFound."""
        query = select(COMPLETIONS.c.messages).where(
            COMPLETIONS.c.id == completion_id, self._there(tenant)
        )
        found = await self._database.read(lambda connection: connection.execute(query).scalar())
        if found is None:
            raise completion_not_found(completion_id)
        return tuple(found)

    async def page(self, tenant: str, cut: Cut, wanted: Wanted) -> CompletionPage:
        """Some of those wanted. Raises InvalidRequest for a start that is none of them."""
        own = COMPLETIONS.c
        query = select(own.seq, own.id, own.metadata, own.body).where(self._there(tenant))
        if wanted.model is not None:
            query = query.where(or_(own.model == wanted.model, own.asked == wanted.model))
        for key, value in wanted.metadata.items():
            query = query.where(_labelled(key, value))

        def work(connection: Connection) -> CompletionPage:
            page = page_of(connection, COMPLETIONS, query, cut)
            return CompletionPage(tuple(_shown(row) for row in page.rows), page.has_more)

        return await self._database.read(work)

    async def update(self, tenant: str, completion_id: str, metadata: Mapping[str, str]) -> JSON:
        """Replace its metadata, and keep it for as long again. Raises NotFound."""

        def work(connection: Connection) -> JSON:
            now_s = self._wall_s()
            changed = (
                COMPLETIONS.update()
                .where(COMPLETIONS.c.id == completion_id, self._there(tenant))
                .values(metadata=metadata, expires_s=self._expiry(tenant, now_s))
            )
            if not connection.execute(changed).rowcount:
                raise completion_not_found(completion_id)
            former = COMPLETION_METADATA.c.completion == completion_id
            connection.execute(delete(COMPLETION_METADATA).where(former))
            _label(connection, completion_id, metadata)
            return self._found(connection, tenant, completion_id)

        return await self._database.write(work)

    async def delete(self, tenant: str, completion_id: str) -> None:
        """Forget it. Raises NotFound."""
        which = (COMPLETIONS.c.id == completion_id) & self._there(tenant)
        now_s = self._wall_s()
        taken = await self._database.write(
            lambda c: custody.take_away(c, COMPLETIONS, which, tenant, now_s)
        )
        if not taken.count:
            raise completion_not_found(completion_id)

    def _found(self, connection: Connection, tenant: str, completion_id: str) -> JSON:
        query = select(COMPLETIONS.c.metadata, COMPLETIONS.c.body).where(
            COMPLETIONS.c.id == completion_id, self._there(tenant)
        )
        row = connection.execute(query).mappings().first()
        if row is None:
            raise completion_not_found(completion_id)
        return _shown(row)

    def _expiry(self, tenant: str, now_s: float) -> float | None:
        ttl_s = self._ttl_s(tenant)
        return None if ttl_s is None else now_s + ttl_s

    def _there(self, tenant: str) -> ColumnElement[bool]:
        expires = COMPLETIONS.c.expires_s
        alive = or_(expires.is_(None), expires > self._wall_s())
        return (COMPLETIONS.c.tenant == tenant) & alive


def completion_not_found(completion_id: str) -> NotFound:
    """In the words of the API."""
    return NotFound(f"Chat completion with id {completion_id[:80]!r} not found.")


def _shown(row: RowMapping) -> JSON:
    return {**row["body"], "metadata": row["metadata"]}


def _label(connection: Connection, completion_id: str, metadata: Mapping[str, str]) -> None:
    if metadata:
        rows = [
            {"completion": completion_id, "key": key, "value": value}
            for key, value in metadata.items()
        ]
        connection.execute(COMPLETION_METADATA.insert(), rows)


def _labelled(key: str, value: str) -> ColumnElement[bool]:
    """Looked up for each completion that the page comes by, so that a list of what many have in
    common ends with its page."""
    own = COMPLETION_METADATA.c
    return (
        select(own.completion)
        .where(own.completion == COMPLETIONS.c.id, own.key == key, own.value == value)
        .exists()
    )
