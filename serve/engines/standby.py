"""Processes that have paid for an engine's imports before anybody wants the engine.

Of what a start takes, importing is the largest part and the same for every model. The pool keeps
such processes in the background, filled only while no engine starts; `serve.engines.process`
takes one where it fits and starts afresh where none does.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve.core.errors import SetupError
from serve.engines.become import LATE, STANDBY_FLAG, WARM, Order, early
from serve.engines.launch import SCRATCH_VARIABLE, LaunchPlan
from serve.engines.mortality import PARENT_VARIABLE, kill_session
from serve.engines.output import Output
from serve.engines.vitals import vitals_of

log = logging.getLogger("inhouse.engine")

LOOK_EVERY_S: Final = 1.0
WARM_TIMEOUT_S: Final = 300.0
"""Imports at low priority, on a machine that has other things to do."""
PAUSE_FIRST_S: Final = 5.0
PAUSE_MAX_S: Final = 600.0
"""Between attempts, where standbys do not become warm."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What engines must have in common to come from the same standby."""

    program: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


def kind_of(plan: LaunchPlan) -> Kind | None:
    """The kind of a plan; None where it is not a module of ours, which alone can wait."""
    if plan.argv[1:2] != ("-m",) or len(plan.argv) < 3:
        return None
    return Kind(plan.argv[:3], early(plan.env))


@dataclass(frozen=True, slots=True)
class Standby:
    """One waiting process."""

    kind: Kind
    slot: int
    process: asyncio.subprocess.Process
    output: Output
    line: socket.socket

    @property
    def lives(self) -> bool:
        """It has not ended, and no signal has stopped it."""
        pid = self.process.pid
        return self.process.returncode is None and not vitals_of(pid, (pid,)).frozen

    def become(self, plan: LaunchPlan, label: str) -> None:
        """Turn it into the plan's engine; from now on it is the caller's. Raises OSError."""
        env = {name: value for name, value in plan.env.items() if name in LATE}
        order = Order(plan.argv[3:], env, str(plan.cwd)).encode()
        with self.line:
            # A few KiB into an empty socket buffer: all or nothing, and at once.
            if self.line.send(order) != len(order):
                raise OSError("a standby takes no order")
        self.output.label = label

    async def end(self) -> None:
        """Kill it and forget it."""
        self.line.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        await asyncio.to_thread(kill_session, self.process.pid)
        self.output.close()


class StandbyPool:
    """Up to `size` waiting processes of the kinds that the site's engines are of.

    Call from one event loop, on the main thread.
    """

    def __init__(self, size: int, run_dir: Path) -> None:
        self._size = size
        self._run_dir = run_dir
        self._plans: dict[Kind, LaunchPlan] = {}
        self._warm: list[Standby] = []
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    @property
    def warm(self) -> int:
        """How many could become an engine now."""
        return sum(one.lives for one in self._warm)

    def keep(self, plans: Iterable[LaunchPlan]) -> None:
        """Hold standbys that fit these engines; others end at the next look."""
        kinds = {kind: plan for plan in plans if (kind := kind_of(plan)) is not None}
        self._plans = kinds

    def start(self, busy: Callable[[], bool] = lambda: False) -> None:
        """Begin to fill, and return at once; nothing is begun while `busy` says that an engine
        starts, which needs the cores more."""
        if self._size and self._task is None:
            self._task = asyncio.create_task(self._fill(busy), name="standbys")

    async def stop(self) -> None:
        """End every standby."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        warm, self._warm = self._warm, []
        for one in warm:
            await one.end()

    def take(self, plan: LaunchPlan) -> Standby | None:
        """A warm process that can become this engine, if there is one."""
        kind = kind_of(plan)
        for one in self._warm:
            if one.kind == kind and one.lives:
                self._warm.remove(one)
                return one
        return None

    async def _fill(self, busy: Callable[[], bool]) -> None:
        while True:
            # First of all: who starts the pool is about to start engines.
            await asyncio.sleep(LOOK_EVERY_S)
            await self._end_unfit()
            if (kind := self._lacking()) is None or busy():
                continue
            try:
                self._warm.append(await self._begin(kind, self._plans[kind]))
                self._failures = 0
            except (OSError, SetupError, TimeoutError) as error:
                self._failures += 1
                pause_s = min(PAUSE_FIRST_S * 2.0 ** (self._failures - 1), PAUSE_MAX_S)
                why = str(error) or f"not warm within {WARM_TIMEOUT_S:g} s"
                log.warning("no standby: %s; again in %.0f s", why, pause_s)
                await asyncio.sleep(pause_s)

    async def _end_unfit(self) -> None:
        for one in tuple(self._warm):
            if one.kind not in self._plans or not one.lives:
                self._warm.remove(one)
                await one.end()

    def _lacking(self) -> Kind | None:
        """The kind to start next: the one of which fewest wait, in the order of the site."""
        if len(self._warm) >= self._size or not self._plans:
            return None
        waiting = [one.kind for one in self._warm]
        return min(self._plans, key=waiting.count)

    async def _begin(self, kind: Kind, plan: LaunchPlan) -> Standby:
        """Start one and wait until it is warm. Raises OSError and TimeoutError."""
        taken = {one.slot for one in self._warm}
        slot = next(number for number in range(self._size) if number not in taken)
        name = f"standby-{slot}"
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        output = Output(name)
        env = {name: value for name, value in plan.env.items() if name not in LATE}
        env |= {
            SCRATCH_VARIABLE: str(self._run_dir / f"{name}.tmp"),
            "INHOUSE_ENGINE": name,
            PARENT_VARIABLE: str(os.getpid()),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *plan.argv[:3],
                STANDBY_FLAG,
                env=env,
                cwd=plan.cwd,
                stdin=theirs.fileno(),
                stdout=output.write_end,
                stderr=output.write_end,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            output.close()
            raise
        finally:
            theirs.close()
            output.close_write_end()
        standby = Standby(kind, slot, process, output, ours)
        try:
            async with asyncio.timeout(WARM_TIMEOUT_S):
                said = await asyncio.get_running_loop().sock_recv(ours, len(WARM))
            if said != WARM:
                raise OSError(f"it ended before it was warm: {output.last_words}")
        except BaseException:
            await standby.end()
            raise
        log.info("a standby is warm", extra={"pid": process.pid})
        return standby
