"""Brings texts to where they are kept, in groups, while nobody waits."""

import asyncio
import logging
from collections import deque
from typing import Final

from serve.core.errors import StorageUnavailable
from serve.core.text import Text, Texts

log = logging.getLogger("inhouse.audit")

WAITING_MAX_BYTES: Final = 64 * 2**20
"""What may wait for the database; where more does, receipts say that their text is not kept."""
GROUP_MAX: Final = 64
GAP_S: Final = 0.05
RETRY_S: Final = 1.0


class TextKeeper:
    """A bounded line of texts before `texts`."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._waiting: deque[tuple[Text, int]] = deque()
        self._waiting_bytes = 0
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def has_room(self, size_bytes: int) -> bool:
        """Whether a text of this size can be given now."""
        return self._waiting_bytes + size_bytes <= WAITING_MAX_BYTES

    def give(self, text: Text, size_bytes: int) -> None:
        """Keep it, soon."""
        self._waiting.append((text, size_bytes))
        self._waiting_bytes += size_bytes
        self._more.set()
        if self._task is None:
            self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Keep what waits, as far as the database takes it, and end."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        try:
            while self._waiting:
                await self._add()
        except StorageUnavailable as error:
            log.error(
                "texts of requests are lost: %s", error.message, extra={"texts": len(self._waiting)}
            )

    async def _keep(self) -> None:
        while True:
            await self._more.wait()
            await asyncio.sleep(GAP_S)
            self._more.clear()
            try:
                while self._waiting:
                    await self._add()
            except StorageUnavailable as error:
                log.warning("texts of requests wait: %s", error.message)
                self._more.set()
                await asyncio.sleep(RETRY_S)

    async def _add(self) -> None:
        group = [self._waiting[at] for at in range(min(GROUP_MAX, len(self._waiting)))]
        await self._texts.add([text for text, _ in group])
        for _, size in group:
            self._waiting.popleft()
            self._waiting_bytes -= size
