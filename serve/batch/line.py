"""One line of a batch, from its bytes in the input file to its result in the database."""

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from serve.batch.lanes import Lane, Lanes
from serve.batch.output import answered
from serve.batch.pace import is_temporary, retry_in_s
from serve.batch.ports import Answer, Execute
from serve.core.call import Principal
from serve.core.errors import StorageUnavailable
from serve.state.batches import Batches, BatchRecord, Line

log = logging.getLogger("inhouse.batch")

T = TypeVar("T")
SAVE_AGAIN_S: Final = 2.0
_REFUSED: Final = {
    "stream": "a batch keeps whole answers; leave 'stream' out.",
    "background": "a batch waits for its answers; leave 'background' out.",
}


class LineRunner:
    """Runs lines of one batch. `ended` is told of each whether it failed."""

    def __init__(
        self,
        batches: Batches,
        execute: Execute,
        lanes: Lanes,
        record: BatchRecord,
        input_file: Path,
        ended: Callable[[bool], None],
    ) -> None:
        self._batches = batches
        self._execute = execute
        self._lanes = lanes
        self._record = record
        self._input_file = input_file
        self._ended = ended
        self._endpoint = str(record.body["endpoint"])
        self._principal = Principal(record.key, record.tenant)

    async def run_all(self) -> None:
        """Run every line that has no result yet; cancelled, those in hand are left unrun.

        Each waits here for its place, so that no more are in memory than have one.
        """
        after = 0
        async with asyncio.TaskGroup() as running:
            while lines := await self._batches.to_run(self._record.id, after):
                for line in lines:
                    body = await asyncio.to_thread(self._read, line)
                    lane = await self._lanes.enter(str(body.get("model", "")))
                    task = running.create_task(self._run(line, body))
                    task.add_done_callback(partial(self._left, lane))
                after = lines[-1].number

    def _left(self, lane: Lane, _: object) -> None:
        self._lanes.leave(lane)

    def _read(self, line: Line) -> dict[str, Any]:
        with self._input_file.open("rb") as file:
            data = os.pread(file.fileno(), line.size_bytes, line.place)
        body: dict[str, Any] = orjson.loads(data)["body"]
        return body

    async def _run(self, line: Line, body: dict[str, Any]) -> None:
        answer = _refusal(body) or await self._answer(body)
        failed = answer.status >= 400
        result = answered(line.custom_id, answer)
        if await finished(self._save(line, failed, result)):
            self._ended(failed)

    async def _answer(self, body: dict[str, Any]) -> Answer:
        tries = 0
        while True:
            answer = await self._execute(self._endpoint, body, self._principal)
            if not is_temporary(answer.status):
                return answer
            tries += 1
            chance = random.random()  # noqa: S311 - spreads retries, and keeps nothing secret
            await asyncio.sleep(retry_in_s(tries, answer.retry_after_s, chance))

    async def _save(self, line: Line, failed: bool, result: bytes) -> bool:
        while True:
            try:
                return await self._batches.settle(
                    self._record.id, line.number, failed=failed, result=result
                )
            except StorageUnavailable as error:
                log.warning("a batch's result cannot be kept yet: %s", error.message)
                await asyncio.sleep(SAVE_AGAIN_S)


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Await it to its end, even where this is cancelled; the cancel is raised after that."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=SAVE_AGAIN_S)
        task.cancel()
        raise


def _refusal(body: dict[str, Any]) -> Answer | None:
    """The answer to what cannot be asked in a batch."""
    for name, reason in _REFUSED.items():
        if body.get(name):
            error = {
                "message": f"Unsupported parameter: '{name}': {reason}",
                "type": "invalid_request_error",
                "param": name,
                "code": "unsupported_parameter",
            }
            return Answer(400, f"req_{os.urandom(16).hex()}", {"error": error})
    return None
