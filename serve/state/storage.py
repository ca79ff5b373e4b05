"""All that is kept, over one database: opened at the start, swept now and then, closed last."""

import asyncio
from pathlib import Path

from serve.core.errors import SetupError, StorageUnavailable
from serve.settings.batches import Files as FileBounds
from serve.settings.idempotency import Idempotency
from serve.settings.state import State
from serve.state.batches import Batches
from serve.state.completions import Completions
from serve.state.conversations import Conversations
from serve.state.files import Files
from serve.state.folder import Folder
from serve.state.gateways import Gateways
from serve.state.idempotency import IdempotencyKeys
from serve.state.quotas import QuotaBook
from serve.state.recent import Recent
from serve.state.responses import Responses
from serve.state.retention import Retention
from serve.state.texts import RequestTexts
from serve.state.turnbook import Turnbook
from serve.state.uploads import Uploads
from serve.state.usage import UsageRecords
from serve.store.address import address_of
from serve.store.database import Database


class Storage:
    """The durable objects of a site.

    Raises SetupError for a database's address that is none.
    """

    def __init__(
        self,
        settings: State,
        var_dir: Path,
        file_bounds: FileBounds | None = None,
        idempotency: Idempotency | None = None,
    ) -> None:
        self.settings = settings
        self.file_bounds = file_bounds or FileBounds()
        self.database = Database(address_of(settings.database, var_dir, settings.password_file))
        # With a database of its own, nobody else takes away what this process has written.
        recent = Recent() if self.database.exclusive else Recent(0)
        self.gateways = Gateways(self.database, var_dir)
        owner = self.gateways.id
        self.responses = Responses(self.database, recent=recent, owner=owner)
        self.conversations = Conversations(self.database, self.ttl_s, owner=owner)
        self.turnbook = Turnbook(self.database, self.responses, self.conversations)
        self.completions = Completions(self.database, self.ttl_s)
        self.folder = Folder(var_dir / "files")
        self.files = Files(self.database, self.folder, self.ttl_s, self._tenant_max_bytes)
        self.uploads = Uploads(self.database, self.folder, self.files)
        self.batches = Batches(self.database, self.ttl_s, owner=owner)
        self.texts = RequestTexts(self.database, self.ttl_s)
        self.usage = UsageRecords(self.database)
        self.quotas = QuotaBook(self.database)
        self.retention = Retention(self.database, self.folder, recent.clear)
        self.idempotency = IdempotencyKeys(self.database, owner, idempotency or Idempotency())
        self._sweeping: asyncio.Task[None] | None = None

    def ttl_s(self, tenant: str) -> float | None:
        """Seconds that this tenant's objects are kept now; None is for ever."""
        return self.settings.ttl_s(tenant)

    def _tenant_max_bytes(self) -> int:
        return int(self.file_bounds.tenant_gib * 2**30)

    def claim(self) -> None:
        """Be the one server of this `var_dir`; `open` does so too. Raises SetupError."""
        self.gateways.claim()

    async def open(self) -> None:
        """Connect, bring the tables up to date, and begin to sweep. Raises SetupError."""
        await asyncio.to_thread(self.database.open)
        try:
            self.database.claim()
            await self.gateways.enter()
        except SetupError:
            await asyncio.to_thread(self.database.close)
            raise
        except StorageUnavailable as error:
            await asyncio.to_thread(self.database.close)
            raise SetupError(f"state.database: {error.message}") from error
        try:
            await self.retention.tidy()
        except StorageUnavailable as error:
            await self.gateways.leave()
            await asyncio.to_thread(self.database.close)
            raise SetupError(f"{self.folder.path}: {error.message}") from error
        self._sweeping = asyncio.create_task(self.retention.keep_sweeping())

    async def close(self) -> None:
        """Finish what is being written, and let go."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await self.gateways.leave()
        await asyncio.to_thread(self.database.close)
