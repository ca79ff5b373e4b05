"""Which gateways share a database: whoever works on something is named there, as its owner.

A gateway that lives counts its beat up. The others tell by that alone, each by its own monotonic
clock, so that no clock of another machine is believed. One whose beat stands still is taken out of
the table, and what it owned is taken over by whoever is first. One that was merely slow finds its
work owned by another, and leaves it.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Final

from sqlalchemy import Connection, Table, delete, insert, select, update

from serve.core.errors import SetupError, StorageUnavailable
from serve.store.claim import claimed
from serve.store.database import Database
from serve.store.tables import CONVERSATIONS, GATEWAYS, RESPONSES

log = logging.getLogger("inhouse.state")

ALONE: Final = "alone"
"""The owner of what is worked on where nobody says who works."""
BEAT_S: Final = 2.0
LEASE_S: Final = 15.0
"""Without a beat for so long, a gateway counts as dead."""
NAME_FILE: Final = "gateway"
"""Where the id of the gateway of a `var_dir` is written: the next one there knows whose heir it
is, and need not wait."""

Told = Callable[[], Awaitable[None]]


class Gateways:
    """This gateway among those of its database. `folder` is where its id is left for the next."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id: Final = f"gw_{os.urandom(16).hex()}"
        self._database = database
        self._folder = folder
        self._monotonic_s = monotonic_s
        self._seen: dict[str, tuple[int, float]] = {}
        self._told: list[Told] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._name: IO[bytes] | None = None
        self._former: str | None = None

    def subscribe(self, told: Told) -> None:
        """Have this called now and then: something may be there to be taken over."""
        self._told.append(told)

    def claim(self) -> None:
        """Be the one server of this folder, until `leave`. Raises SetupError."""
        if self._name is None:
            self._former = self._claim_name()

    async def enter(self) -> None:
        """Be one of them, and keep beating. Raises SetupError and StorageUnavailable."""
        await asyncio.to_thread(self.claim)
        former = self._former

        def work(connection: Connection) -> None:
            others = delete(GATEWAYS)
            if not self._database.exclusive:
                others = others.where(GATEWAYS.c.id == former)
            connection.execute(others)
            connection.execute(insert(GATEWAYS).values(id=self.id, beat=0))
            _unlock_orphans(connection)

        try:
            await self._database.write(work)
        except StorageUnavailable:
            self._let_go()
            raise
        if not self._database.exclusive:
            self._tasks = [
                asyncio.create_task(self._keep_beating(), name="gateways beat"),
                asyncio.create_task(self._keep_looking(), name="gateways look"),
            ]

    async def leave(self) -> None:
        """What is left unfinished may be taken over at once."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            mine = delete(GATEWAYS).where(GATEWAYS.c.id == self.id)
            await self._database.write(lambda c: c.execute(mine).rowcount)
        except StorageUnavailable as error:
            log.warning("other gateways will wait before they take over: %s", error.message)
        self._let_go()

    def _let_go(self) -> None:
        if self._name is not None:
            self._name.close()
        self._name = None

    async def beat(self) -> None:
        """Say that this gateway lives, and take out those that do not. Raises
        StorageUnavailable."""
        beats = await self._database.write(self._beat)
        now_s = self._monotonic_s()
        self._seen = {
            name: (beat, self._seen[name][1])
            if name in self._seen and self._seen[name][0] == beat
            else (beat, now_s)
            for name, beat in beats.items()
        }
        for name, (beat, since_s) in self._seen.items():
            if now_s - since_s >= LEASE_S and await self._take_out(name, beat):
                log.warning("a gateway has died; others take over its work", extra={"died": name})

    def _beat(self, connection: Connection) -> dict[str, int]:
        own = GATEWAYS.c
        mine = update(GATEWAYS).where(own.id == self.id).values(beat=own.beat + 1)
        if not connection.execute(mine).rowcount:  # it was too slow, and taken out
            connection.execute(insert(GATEWAYS).values(id=self.id, beat=0))
        others = select(own.id, own.beat).where(own.id != self.id)
        return {row.id: row.beat for row in connection.execute(others)}

    async def _take_out(self, name: str, beat: int) -> bool:
        gone = delete(GATEWAYS).where(GATEWAYS.c.id == name, GATEWAYS.c.beat == beat)
        return bool(await self._database.write(lambda c: c.execute(gone).rowcount))

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.beat()
            except StorageUnavailable as error:
                log.warning("other gateways may take over this one's work: %s", error.message)

    async def _keep_looking(self) -> None:
        """Apart from the beat: taking over may take a while."""
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._database.write(_unlock_orphans)
                for told in self._told:
                    await told()
            except StorageUnavailable as error:
                log.warning("nothing is taken over now: %s", error.message)
            except Exception:
                log.exception("the work of other gateways cannot be taken over")

    def _claim_name(self) -> str | None:
        """The id of the gateway that was here before; it lives no more."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._name = name = claimed(
                self._folder / NAME_FILE,
                f"{self._folder} is in use by another server; give each a var_dir of its own",
            )
            name.seek(0)
            former = name.read().decode(errors="replace").strip()
            name.truncate(0)
            name.write(self.id.encode())
            name.flush()
        except OSError as error:
            raise SetupError(f"{self._folder}: {error.strerror}") from None
        return former or None


def orphaned(connection: Connection, table: Table) -> list[tuple[str, str]]:
    """Ids of what is owned by a gateway that is not there, each with that one's id."""
    own = table.c
    living = select(GATEWAYS.c.id)
    query = select(own.id, own.owner).where(own.owner.is_not(None), own.owner.not_in(living))
    return [(row[0], row[1]) for row in connection.execute(query.order_by(own.seq))]


def take_over(connection: Connection, table: Table, name: str, former: str, owner: str) -> bool:
    """Own it from now on; False where another has been first."""
    own = table.c
    free = update(table).where(own.id == name, own.owner == former)
    return bool(connection.execute(free.values(owner=owner)).rowcount)


def _unlock_orphans(connection: Connection) -> None:
    """End the turns of gateways that are not there, but for those that will be taken up."""
    own = CONVERSATIONS.c
    taken_up = select(RESPONSES.c.id).where(RESPONSES.c.owner.is_not(None))
    ended = update(CONVERSATIONS).where(
        own.owner.is_not(None),
        own.owner.not_in(select(GATEWAYS.c.id)),
        own.turn.not_in(taken_up),
    )
    connection.execute(ended.values(turn=None, owner=None))
