"""An audit log on a disk that really fills up, and is then given space: `… FOLDER`, in a namespace.

Mounts a small file system at the folder, which its own mount namespace alone sees. Prints one line
of JSON: what was claimed, recorded and refused, and what the log has at the end.
"""

import asyncio
import json
from pathlib import Path

from serve.audit.search import Wanted, search
from serve.audit.trail import AuditTrail
from serve.audit.verify import verify
from serve.core.clock import SystemClock
from serve.core.errors import StorageUnavailable
from serve.settings.audit import Audit
from tests.small_disk import filled, on_small_disk

OPEN = 10


async def main(folder: Path) -> None:
    trail = AuditTrail(folder / "audit", Audit(segment_mib=1), SystemClock())
    await trail.open()
    written = await until_refused(trail, 0, 200)
    filler = filled(folder)
    for _ in range(OPEN):
        trail.claim()
    written = await until_refused(trail, written, 100_000)
    refused_at = written
    # Those that had begun still leave their receipts.
    for number in range(OPEN):
        trail.record("request", {"request_id": f"open_{number}"}, claimed=True)
    trail.record("model.state", {"note": "not claimed"})
    failing = trail.state()[1]
    filler.unlink()
    async with asyncio.timeout(20):
        while written < refused_at + 100:
            written = await until_refused(trail, written, refused_at + 100)
            await asyncio.sleep(0.02)
    await trail.close()
    found = list(search(folder / "audit", Wanted(kind="request")))
    print(json.dumps({
        "written": written, "refused_at": refused_at, "failing": failing,
        "receipts": len(found), "waited": len(list(search(folder / "audit", Wanted(kind="model")))),
        "lost": trail.lost, "findings": verify(folder / "audit").findings,
    }))  # fmt: skip


async def until_refused(trail: AuditTrail, number: int, end: int) -> int:
    """The number of the next request."""
    while number < end:
        try:
            trail.claim()
        except StorageUnavailable:
            break
        trail.record("request", {"request_id": f"req_{number}", "pad": "x" * 900}, claimed=True)
        number += 1
        if number % 50 == 0:
            await asyncio.sleep(0.01)
    return number


if __name__ == "__main__":
    on_small_disk(main)
