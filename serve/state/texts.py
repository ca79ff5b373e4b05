"""Prompts and answers of tenants that want theirs kept, by the request's id."""

import os
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, insert, or_, select

from serve.core.errors import Conflict
from serve.core.text import Text
from serve.state import custody
from serve.store.database import Database
from serve.store.tables import REQUEST_TEXTS


class RequestTexts:
    """See `serve.core.text.Texts`. `ttl_s`: how long a tenant's are kept, None for ever."""

    def __init__(
        self,
        database: Database,
        ttl_s: Callable[[str], float | None],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._ttl_s = ttl_s
        self._wall_s = wall_s

    async def add(self, texts: Sequence[Text]) -> None:
        """See `serve.core.text.Texts`."""
        now_s = self._wall_s()

        def work(connection: Connection) -> None:
            for one in texts:
                try:
                    custody.admit(connection, one.tenant, one.begun)
                except Conflict:
                    continue
                ttl_s = self._ttl_s(one.tenant)
                row = {
                    "id": f"text_{os.urandom(12).hex()}",
                    "tenant": one.tenant,
                    "created_s": now_s,
                    "expires_s": None if ttl_s is None else now_s + ttl_s,
                    "request_id": one.request_id,
                    "asked": one.asked,
                    "answer": one.answer,
                    "receipt": one.receipt,
                }
                connection.execute(insert(REQUEST_TEXTS), row)

        await self._database.write(work)

    async def of(self, request_id: str) -> list[Text]:
        """All of one request, in their order; a request that was cut to fit has several."""
        columns = REQUEST_TEXTS.c
        query = (
            select(REQUEST_TEXTS)
            .where(columns.request_id == request_id)
            .where(or_(columns.expires_s.is_(None), columns.expires_s > self._wall_s()))
            .order_by(columns.seq)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [
            Text(row.request_id, row.tenant, row.asked, row.answer, row.receipt) for row in rows
        ]
