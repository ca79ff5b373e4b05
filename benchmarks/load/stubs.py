"""Stubs as processes of their own, for as long as they are needed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson

from benchmarks.load.cpu import pin
from benchmarks.load.http import ask
from benchmarks.load.stub import LATE_PATH, Pace
from benchmarks.load.target import Target, target

STOP_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class RunningStub:
    """A stub that listens."""

    port: int
    pid: int

    def target(self, manner: str = "ok") -> Target:
        """It as a target whose answers are of this manner."""
        return target(f"http://127.0.0.1:{self.port}/v1", f"stub:{manner}", {})

    async def lateness(self) -> Mapping[str, Any]:
        """How late its tokens were since it was asked last. See `Stub.lateness`."""
        request = b"GET %b HTTP/1.1\r\nhost: stub\r\n\r\n" % LATE_PATH
        _, body = await ask(("127.0.0.1", self.port), request, 10)
        found: Mapping[str, Any] = orjson.loads(body)
        return found


@asynccontextmanager
async def running(pace: Pace, cores: Collection[int] = ()) -> AsyncIterator[RunningStub]:
    """A stub of this pace, on these cores alone where any are named."""
    options = [f"--{name.replace('_', '-')}={getattr(pace, name)}" for name in Pace.__slots__]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load.stub", *options, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        if cores:
            pin([process.pid], cores)
        yield RunningStub(port, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()


def apart() -> tuple[set[int], set[int]]:
    """Cores for a client and for its stub: one for the client where there are several."""
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[-1]}, set(cores[:-1])) if len(cores) > 1 else (set(cores), set(cores))
