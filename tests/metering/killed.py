"""A server's ledger that is killed again and again while it writes.

`python -m tests.metering.killed FOLDER KILLS SEED`: each life is a fork, which takes up what the
one before it left; the last ends in order. What the engines made is in `truth.txt`: a line before
the ledger hears of it, and one once an answer is with its client.
"""

import asyncio
import contextlib
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from serve.core.errors import StorageUnavailable
from serve.core.usage import Usage
from serve.metering.ledger import DiskLedger
from serve.state.usage import UsageRecords
from serve.store.address import address_of
from serve.store.database import Database
from tests.metering.books import SetClock, closed, flat, opened

CLIENTS = 24
FILE_BYTES = 128 * 1024


def main(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    begun, began = os.pipe()
    asyncio.run(serve(folder, -1, 0.05, began))
    for life in range(kills):
        os.read(begun, 2)
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(serve(folder, life, 60.0, began))
            finally:
                os._exit(1)
        if chance.random() < 0.9:
            select.select([begun], [], [], 10)
        else:
            os.write(began, b".")  # it may not live to say so
        time.sleep(chance.uniform(0.0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    asyncio.run(serve(folder, kills, 0.1, began))


async def serve(folder: Path, life: int, lasts_s: float, began: int) -> None:
    database = Database(address_of(None, folder))
    database.open()
    # Sooner than by default: else few lives would get as far as the database.
    ledger = DiskLedger(
        folder / "ledger", UsageRecords(database), flat, SetClock(), FILE_BYTES,
        keep_gap_s=0.02,
    )  # fmt: skip
    await ledger.open()
    os.write(began, b".")
    truth = os.open(folder / "truth.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    clients = [asyncio.create_task(client(ledger, truth, f"{life}.{n}")) for n in range(CLIENTS)]
    await asyncio.sleep(lasts_s)
    for task in clients:
        task.cancel()
    await asyncio.wait(clients)
    await ledger.close()
    database.close()


async def client(ledger: DiskLedger, truth: int, name: str) -> None:
    chance = random.Random(name)
    number = 0
    while True:
        request_id = f"req.{name}.{number}"
        number += 1
        try:
            entry = ledger.reserve(opened(request_id, tenant=f"t{chance.randrange(3)}"))
        except StorageUnavailable:
            await asyncio.sleep(0.005)
            continue
        prompt, made = chance.randrange(1, 1000), 0
        os.write(truth, f"made {request_id} 0 0\n".encode())
        try:
            await entry.durable()
            for _ in range(chance.randrange(1, 6)):
                made += chance.randrange(1, 50)
                os.write(truth, f"made {request_id} {prompt} {made}\n".encode())
                entry.note(Usage(prompt, made))
                await asyncio.sleep(chance.choice((0, 0, 0.001, 0.004)))
            os.write(truth, f"whole {request_id} {prompt} {made}\n".encode())
        except asyncio.CancelledError:
            with contextlib.suppress(StorageUnavailable):
                entry.settle(closed(prompt if made else 0, made, "cancelled"))
            raise
        entry.settle(closed(prompt, made))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
