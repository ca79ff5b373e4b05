"""The effects of an engine's life, for real: a process in a session of its own."""

import asyncio
import contextlib
import logging
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from serve.core.errors import EngineError, SetupError
from serve.engines.client import EngineClient
from serve.engines.launch import LaunchPlan
from serve.engines.mortality import PARENT_VARIABLE, kill_session, session_members
from serve.engines.output import Output
from serve.engines.standby import StandbyPool
from serve.engines.vitals import Vitals, pulse_of, vitals_of
from serve.settings.model import ServedModel

log = logging.getLogger("inhouse.engine")

PROBE_TIMEOUT_S: Final = 120.0
"""A first token may wait for a first compilation."""
ORDER_TIMEOUT_S: Final = 120.0
"""To sleep, an engine copies its weights out of its device; to wake, back."""
SWEEP_TIMEOUT_S: Final = 60.0
"""A driver may take this long to free the memory of a killed process."""
SWEEP_EVERY_S: Final = 0.02
MEMBERS_EVERY_LOOKS: Final = 60
"""Listing all processes of a big machine takes a while, and an engine's seldom change."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of an ended process: its last lines, and what could not be killed."""

    last_words: str
    tail: tuple[str, ...]
    survivors: int


class EngineProcess(Protocol):
    """A started engine process."""

    @property
    def pid(self) -> int:
        """Its process id, which is its session's too."""

    async def exited(self) -> int:
        """Wait for its end; its exit code, or a signal's number, negative."""

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); one that has ended already is left alone."""

    def kill(self) -> None:
        """End it and its process group (SIGKILL)."""

    async def vitals(self) -> Vitals:
        """Look at its processes; cheap enough for once a second."""

    async def sweep(self) -> Remains:
        """Once it has exited: end all it had started, and wait until that is gone."""


class EngineEffects(Protocol):
    """The one door from a supervisor to the world; time passes only in `pause`."""

    async def spawn(self, plan: LaunchPlan, label: str) -> EngineProcess:
        """Start the plan's process. Raises OSError or SetupError."""

    async def probe(self, client: EngineClient, model: ServedModel) -> None:
        """Ask for one token. Raises EngineError."""

    async def pulse(self, client: EngineClient, timeout_s: float) -> tuple[float, ...] | None:
        """The series of its metrics that only its core moves; None where it does not answer."""

    async def doze(self, client: EngineClient, level: int) -> None:
        """Have the engine sleep, after what runs. Raises EngineError."""

    async def rouse(self, client: EngineClient, level: int) -> None:
        """Have the engine wake from a sleep of this level. Raises EngineError."""

    async def pause(self, delay_s: float) -> None:
        """Let time pass."""


class SystemEffects:
    """Real processes and real time; engines come from `standbys` where one fits."""

    def __init__(self, standbys: StandbyPool | None = None) -> None:
        self._standbys = standbys

    async def spawn(self, plan: LaunchPlan, label: str) -> "SystemProcess":
        # Call on the main thread: an engine dies with the thread that started it.
        private_directory(plan.socket.parent)
        plan.socket.unlink(missing_ok=True)
        if (standby := self._standbys.take(plan) if self._standbys else None) is not None:
            try:
                standby.become(plan, label)
            except OSError as error:
                log.warning("a standby is lost: %s", error, extra={"model": label})
                await standby.end()
            else:
                return SystemProcess(standby.process, standby.output, plan.socket, label)
        output = Output(label)
        try:
            process = await asyncio.create_subprocess_exec(
                *plan.argv,
                env={**plan.env, PARENT_VARIABLE: str(os.getpid())},
                cwd=plan.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.write_end,
                stderr=output.write_end,
                start_new_session=True,
            )
        except BaseException:
            output.close()
            raise
        finally:
            output.close_write_end()
        return SystemProcess(process, output, plan.socket, label)

    async def probe(self, client: EngineClient, model: ServedModel) -> None:
        await client.probe_ready(model.id, model.config.task, PROBE_TIMEOUT_S)

    async def pulse(self, client: EngineClient, timeout_s: float) -> tuple[float, ...] | None:
        try:
            status, page = await client.get("/metrics", timeout_s)
        except (EngineError, TimeoutError):
            return None
        return pulse_of(page) if status == 200 else None

    async def doze(self, client: EngineClient, level: int) -> None:
        await _order(client, f"/sleep?level={level}&mode=wait")

    async def rouse(self, client: EngineClient, level: int) -> None:
        if level == 1:
            await _order(client, "/wake_up")
            return
        # The weights' memory is back before they are read into it, the cache's only after.
        await _order(client, "/wake_up?tags=weights")
        await _order(client, "/collective_rpc", b'{"method":"reload_weights"}')
        await _order(client, "/wake_up?tags=kv_cache")

    async def pause(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class SystemProcess:
    """One engine process and everything in its session."""

    def __init__(
        self, process: asyncio.subprocess.Process, output: Output, socket: Path, label: str
    ) -> None:
        self._process = process
        self._output = output
        self._socket = socket
        self._label = label
        self._members: list[int] = []
        self._looks = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    async def exited(self) -> int:
        return await self._process.wait()

    def terminate(self) -> None:
        # Its leader alone: vLLM ends its own workers, after they have finished what runs.
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def vitals(self) -> Vitals:
        if self._looks % MEMBERS_EVERY_LOOKS == 0:
            self._members = await asyncio.to_thread(session_members, self.pid)
        self._looks += 1
        return vitals_of(self.pid, self._members)

    async def sweep(self) -> Remains:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SWEEP_TIMEOUT_S
        # In a thread: a big machine's /proc takes longer to read than a token to stream.
        while survivors := await asyncio.to_thread(kill_session, self.pid):
            if loop.time() > deadline_s:
                log.error(
                    "engine processes survive SIGKILL",
                    extra={"model": self._label, "session": self.pid, "survivors": survivors},
                )
                break
            await asyncio.sleep(SWEEP_EVERY_S)
        self._output.close()
        self._socket.unlink(missing_ok=True)
        return Remains(self._output.last_words, self._output.tail, survivors)


async def _order(client: EngineClient, path: str, body: bytes = b"") -> None:
    try:
        async with asyncio.timeout(ORDER_TIMEOUT_S):
            connection = await client.post(path, body)
            try:
                await connection.read()
            finally:
                client.release(connection)
    except TimeoutError:
        raise EngineError(f"no answer to {path} in {ORDER_TIMEOUT_S:g} s") from None
    if connection.status != 200:
        raise EngineError(f"{path} was answered {connection.status}")


def private_directory(path: Path) -> Path:
    """Make a directory that only this user can enter (0700), and return it.

    One of ours that is open to others is closed to them. Raises SetupError where it is another
    user's, or not a directory.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError:
        raise SetupError(f"{path}: is not a directory; remove it or set another var_dir") from None
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SetupError(f"{path}: is a link or another user's; remove it or set another var_dir")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path
