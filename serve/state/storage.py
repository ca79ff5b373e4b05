"""All that is kept, over one database: opened at the start, swept now and then, closed last."""

import asyncio
from pathlib import Path

from serve.settings.state import State
from serve.state.conversations import Conversations
from serve.state.responses import Responses
from serve.state.retention import Retention
from serve.store.address import address_of
from serve.store.database import Database


class Storage:
    """The durable objects of a site.

    Raises SetupError for a database's address that is none.
    """

    def __init__(self, settings: State, var_dir: Path) -> None:
        self.settings = settings
        self._database = Database(address_of(settings.database, var_dir, settings.password_file))
        self.responses = Responses(self._database)
        self.conversations = Conversations(self._database, self.ttl_s)
        self.retention = Retention(self._database)
        self._sweeping: asyncio.Task[None] | None = None

    def ttl_s(self, tenant: str) -> float | None:
        """Seconds that this tenant's objects are kept now; None is for ever."""
        return self.settings.ttl_s(tenant)

    async def open(self) -> None:
        """Connect, bring the tables up to date, and begin to sweep. Raises SetupError."""
        await asyncio.to_thread(self._database.open)
        self._sweeping = asyncio.create_task(self.retention.keep_sweeping())

    async def close(self) -> None:
        """Finish what is being written, and let go."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await asyncio.to_thread(self._database.close)
