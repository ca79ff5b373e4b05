"""An audit log in a folder of a test's own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from serve.audit.files import segments_in
from serve.audit.trail import AuditTrail
from serve.core.clock import SystemClock
from serve.settings.audit import Audit


class FakeClock:
    """Wall and monotonic seconds that tests set."""

    def __init__(self) -> None:
        self.now_s = 1_795_000_000.0

    def wall_s(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.now_s


@asynccontextmanager
async def trail_in(folder: Path, clock: Any = None, **settings: Any) -> AsyncIterator[AuditTrail]:
    trail = AuditTrail(folder, Audit(**settings), clock or SystemClock())
    await trail.open()
    # What is signed at the start comes first, before a test records anything.
    await asyncio.sleep(0)
    await trail.checkpoints.sign()
    try:
        yield trail
    finally:
        await trail.close()


async def written(folder: Path, lives: Sequence[int], **settings: Any) -> None:
    """A log of several processes, each of which recorded so many."""
    for life, records in enumerate(lives):
        async with trail_in(folder, **settings) as trail:
            for number in range(records):
                trail.record("request", {"request_id": f"req_{life}_{number}", "tenant": "lab"})


def write(folder: Path, lives: Sequence[int], **settings: Any) -> list[Path]:
    """The same, outside an event loop; its segments."""
    asyncio.run(written(folder, lives, **settings))
    return [one.path for one in segments_in(folder)]
