"""Where batches are handed in, looked after and cancelled; what runs them, until it is closed."""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from serve.batch.course import Course, Workplace
from serve.batch.validate import error
from serve.core.call import Principal
from serve.core.errors import Conflict, InvalidRequest, NotFound, StorageUnavailable
from serve.settings.batches import Batches
from serve.state.batches import UNFINISHED, BatchPage, BatchRecord
from serve.state.files import BATCH, file_not_found
from serve.state.page import Cut
from serve.state.records import JSON

log = logging.getLogger("inhouse.batch")

AGAIN_S: Final = 2.0
_CANCELLABLE: Final = ("validating", "in_progress")


@dataclass(frozen=True, slots=True)
class Asked:
    """A new batch, as its client asks for it. `window` is said in the batch object."""

    input_file_id: str
    endpoint: str
    window: str
    window_s: float
    metadata: JSON | None = None
    output_keep_s: float | None = None


class Office:
    """Open it once the storage is open, close it before that closes."""

    def __init__(self, place: Workplace, endpoints: Collection[str]) -> None:
        self.place = place
        self._endpoints = tuple(endpoints)
        self._courses: dict[str, Course] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    async def open(self) -> None:
        """Go on with what a server that ended has left unfinished."""
        await self.place.batches.forget_lines()
        await self.resume()

    async def resume(self) -> None:
        """Take over what gateways that are not there any more have left, and leave what others
        have taken over. One whose input lies in another gateway's folder waits for that one."""
        if self._closed:
            return
        batches = self.place.batches
        for batch_id, former in await batches.orphans():
            if not await self._can_run(batch_id):
                continue
            record = await batches.take_over(batch_id, former)
            if record is not None and batch_id not in self._courses:
                log.info("a batch goes on", extra={"batch": record.id, "status": record.status})
                self._begin(record)
        await self._heed_others()

    async def _heed_others(self) -> None:
        """Leave what another gateway has taken over, and end what was cancelled there."""
        if not (in_hand := list(self._courses)):
            return
        for batch_id, status in (await self.place.batches.not_mine(in_hand)).items():
            course = self._courses.get(batch_id)
            # One that this gateway has ended is at its last step.
            if course is not None and (status in UNFINISHED or course.status == "in_progress"):
                self._tasks[batch_id].cancel()
        for batch_id in await self.place.batches.cancelling(in_hand):
            if (course := self._courses.get(batch_id)) is not None:
                course.cancelled.set()

    async def _can_run(self, batch_id: str) -> bool:
        if not self.place.batches.shared:
            return True
        try:
            ending = (await self.place.batches.find(batch_id)).status not in _CANCELLABLE
        except NotFound:
            return False
        return ending or await asyncio.to_thread(self.place.folder.path_of(batch_id).is_file)

    async def drop(self, tenant: str) -> int:
        """Work on no batch of this tenant any more; how many were worked on.

        What becomes of what is kept is the caller's business.
        """
        tasks = [
            self._tasks[batch_id]
            for batch_id, course in self._courses.items() if course.tenant == tenant
        ]  # fmt: skip
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        return len(tasks)

    async def close(self) -> None:
        """Leave off: lines in hand are run again by the server that comes next."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def create(self, principal: Principal, asked: Asked) -> BatchRecord:
        """Take a batch on; it is validated later.

        Raises NotFound for its input file, InvalidRequest where that is none for batches or its
        endpoint is not served, and Overloaded where too many are unfinished.
        """
        if asked.endpoint not in self._endpoints:
            raise InvalidRequest(
                f"Batches run {', '.join(self._endpoints)} here, not {asked.endpoint[:80]!r}.",
                param="endpoint",
                code="invalid_value",
            )
        place = self.place
        file = await self._input_file(principal, asked.input_file_id)
        record = self._record(principal, asked)
        try:
            # A name of its own for the same bytes: the client may delete the file while they run.
            await place.folder.link(file, record.id)
        except FileNotFoundError:
            raise file_not_found(file, "input_file_id") from None
        try:
            await place.batches.add(record, place.settings.unfinished)
        except BaseException:
            await place.folder.remove([record.id])
            raise
        self._begin(record)
        return record

    async def get(self, tenant: str, batch_id: str) -> BatchRecord:
        """Raises NotFound."""
        return await self.place.batches.get(tenant, batch_id)

    async def page(self, tenant: str, cut: Cut) -> BatchPage:
        """A page of the tenant's. Raises InvalidRequest for a start that is none of them."""
        return await self.place.batches.page(tenant, cut)

    async def latest(self, limit: int) -> list[BatchRecord]:
        """Everyone's, for the operator: unfinished ones first of all."""
        return await self.place.batches.latest(limit)

    async def cancel(self, tenant: str | None, batch_id: str) -> BatchRecord:
        """Have it end with what it has; `tenant` None is the operator.

        Raises NotFound, and Conflict where it has ended or is about to.
        """
        place = self.place
        if tenant is not None:
            await place.batches.get(tenant, batch_id)
        changes = {"cancelling_at": int(place.wall_s())}
        record = await place.batches.move(batch_id, _CANCELLABLE, "cancelling", changes=changes)
        if record is None:
            now = await place.batches.find(batch_id)
            if now.status == "cancelling":
                return now
            raise Conflict(f"Cannot cancel a batch with status '{now.status}'.")
        if (course := self._courses.get(batch_id)) is not None:
            course.cancelled.set()
        return record

    def counts(self) -> dict[str, int]:
        """How many unfinished ones there are, by status."""
        counts = Counter(course.status for course in self._courses.values())
        return {status: counts[status] for status in UNFINISHED}

    def settle(self, settings: Batches, line_max_bytes: int) -> None:
        """Go by these from now on."""
        self.place.settings = self.place.lanes.settings = settings
        self.place.line_max_bytes = line_max_bytes

    async def _input_file(self, principal: Principal, file_id: str) -> str:
        try:
            file = await self.place.files.get(principal.tenant, file_id)
        except NotFound:
            raise file_not_found(file_id, "input_file_id") from None
        if file.purpose != BATCH:
            raise InvalidRequest(
                f"The file {file.id} has the purpose {file.purpose!r}; the input file of a batch "
                f"must have {BATCH!r}.",
                param="input_file_id",
                code="invalid_file_purpose",
            )
        return file.id

    def _record(self, principal: Principal, asked: Asked) -> BatchRecord:
        now_s = self.place.wall_s()
        deadline_s = now_s + asked.window_s
        batch_id = f"batch_{os.urandom(16).hex()}"
        empty = (
            "model", "errors", "output_file_id", "error_file_id", "in_progress_at",
            "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at",
            "cancelled_at", "usage",
        )  # fmt: skip
        body: JSON = {
            "id": batch_id,
            "object": "batch",
            "endpoint": asked.endpoint,
            "input_file_id": asked.input_file_id,
            "completion_window": asked.window,
            "created_at": int(now_s),
            "expires_at": int(deadline_s),
            **dict.fromkeys(empty),
            "metadata": asked.metadata,
        }
        return BatchRecord(
            batch_id, principal.tenant, now_s, None, "validating", principal.key, deadline_s,
            asked.output_keep_s, total=0, completed=0, failed=0, body=body,
        )  # fmt: skip

    def _begin(self, record: BatchRecord) -> None:
        if self._closed:
            return
        batch_id = record.id
        self._courses[batch_id] = course = Course(self.place, record)
        task = asyncio.create_task(self._see_through(course, batch_id), name=batch_id)
        self._tasks[batch_id] = task

        def ended(_: object) -> None:
            del self._tasks[batch_id], self._courses[batch_id]

        task.add_done_callback(ended)

    async def _see_through(self, course: Course, batch_id: str) -> None:
        while True:
            try:
                await course.run()
                return
            except NotFound:
                return  # erased with its tenant, and its bytes with it
            except (StorageUnavailable, ExceptionGroup) as problem:
                if not _is_storage(problem):
                    await self._give_up(course, batch_id, problem)
                    return
            except Exception as problem:
                await self._give_up(course, batch_id, problem)
                return
            await asyncio.sleep(AGAIN_S)

    async def _give_up(self, course: Course, batch_id: str, problem: Exception) -> None:
        message = "This server failed on the batch; its log says why."
        try:
            with contextlib.suppress(StorageUnavailable):
                await self.place.batches.find(batch_id)
            log.error("a batch failed", exc_info=problem, extra={"batch": batch_id})
            await course.fail([error("internal", message)])
        except NotFound:
            return  # erased with its tenant while its lines were run
        except StorageUnavailable:
            log.warning("a batch is left for the next start", extra={"batch": batch_id})


def _is_storage(problem: Exception) -> bool:
    if isinstance(problem, ExceptionGroup):
        return all(_is_storage(one) for one in problem.exceptions)
    return isinstance(problem, StorageUnavailable)
