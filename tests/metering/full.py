"""A ledger on a disk that really fills up, and is then given space: `… FOLDER`, in a namespace.

Mounts a small file system at the folder, which its own mount namespace alone sees. Prints one line
of JSON: what was settled, how often it was refused, what the database has at the end.
"""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from serve.core.errors import StorageUnavailable
from serve.core.usage import Usage
from serve.metering.ledger import DiskLedger
from serve.state.usage import UsageRecords
from serve.store.address import address_of
from serve.store.database import Database
from tests.metering.books import SetClock, closed, flat, opened
from tests.small_disk import filled, on_small_disk

FILE_BYTES = 256 * 1024


async def main(folder: Path) -> None:
    database = Database(address_of(None, folder))
    database.open()
    ledger = DiskLedger(
        folder / "ledger", UsageRecords(database), flat, SetClock(), FILE_BYTES,
        keep_gap_s=0.02, retry_s=0.02,
    )  # fmt: skip
    await ledger.open()
    settled = await settle_until_refused(ledger, 0, 500)
    filler = filled(folder)
    settled = await settle_until_refused(ledger, settled, 100_000)
    refused = settled
    failing = ledger.state()
    filler.unlink()
    async with asyncio.timeout(20):
        while settled < refused + 200:
            settled = await settle_until_refused(ledger, settled, refused + 200)
            await asyncio.sleep(0.02)
    await ledger.close()
    database.close()
    with closing(sqlite3.connect(folder / "inhouse.db")) as reader:
        rows = reader.execute("SELECT completion FROM usage_records ORDER BY 1").fetchall()
    print(json.dumps({
        "settled": settled, "refused_at": refused, "failing": failing[1], "pending": failing[0],
        "recorded": [row[0] for row in rows] == list(range(settled)),
    }))  # fmt: skip


async def settle_until_refused(ledger: DiskLedger, number: int, end: int) -> int:
    """The number of the next request; each settles as many tokens as its number."""
    while number < end:
        try:
            entry = ledger.reserve(opened(f"req_{number}"))
            await entry.durable()
        except StorageUnavailable:
            break
        entry.note(Usage(1, number))
        entry.settle(closed(1, number))
        number += 1
        if number % 50 == 0:
            await asyncio.sleep(0.03)
    return number


if __name__ == "__main__":
    on_small_disk(main)
