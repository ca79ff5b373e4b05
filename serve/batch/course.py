"""The course of one batch, state by state, from wherever it is to its end.

validating → in_progress → finalizing → completed or expired, and failed from the first;
cancelling → cancelled from anywhere before finalizing. Each step is in the database before the
next begins, and can be begun again: a server that was killed goes on from the last one.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

from serve.batch import output, validate
from serve.batch.lanes import Lanes
from serve.batch.line import LineRunner
from serve.batch.ports import Execute, Observer
from serve.settings.batches import Batches as Settings
from serve.state.batches import UNFINISHED, Batches, BatchRecord
from serve.state.files import BATCH_OUTPUT, FileRecord, Files
from serve.state.folder import Folder, Incoming
from serve.state.records import JSON


@dataclass
class Workplace:
    """What all batches share. `line_max_bytes` bounds a line of an input file."""

    batches: Batches
    files: Files
    folder: Folder
    execute: Execute
    lanes: Lanes
    observer: Observer
    settings: Settings
    line_max_bytes: int
    wall_s: Callable[[], float] = time.time
    validating: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One at a time: each may hold a whole file's names."""


class Course:
    """One batch on its way. `cancelled` is set once its status says that it is cancelling."""

    def __init__(self, place: Workplace, record: BatchRecord) -> None:
        self._place = place
        self._id = record.id
        self.tenant = record.tenant
        self.status = record.status
        self.cancelled = asyncio.Event()
        self._doubtful: tuple[Incoming, ...] = ()
        """Files of results of which the database did not say whether it knows them."""

    async def run(self) -> None:
        """To its end. Raises NotFound where the batch has gone, and StorageUnavailable; it can be
        run again then."""
        while True:
            record = await self._place.batches.find(self._id)
            self.status = record.status
            await self._settle_doubts(record)
            match record.status:
                case "validating":
                    await self._until_told(record, self._validate(record))
                    if self._place.wall_s() >= record.deadline_s:
                        await self._move(("validating",), "finalizing", "finalizing_at")
                case "in_progress":
                    await self._until_told(record, self._work(record))
                    await self._move(("in_progress",), "finalizing", "finalizing_at")
                case "finalizing":
                    await self._finish(record, "batch_expired")
                case "cancelling":
                    await self._finish(record, "batch_cancelled")
                case _:
                    break
        if not await self._place.batches.is_held(self._id):
            await self._place.folder.remove([self._id])

    async def fail(self, errors: list[JSON]) -> None:
        """End it with these errors."""
        changes = {"errors": {"object": "list", "data": errors}}
        await self._move(UNFINISHED, "failed", "failed_at", changes)

    async def _until_told(self, record: BatchRecord, work: Coroutine[Any, Any, None]) -> None:
        """Work until it is done, the batch is cancelled, or its time is over."""
        working = asyncio.ensure_future(work)
        told = asyncio.ensure_future(self.cancelled.wait())
        left_s = max(0.0, record.deadline_s - self._place.wall_s())
        try:
            await asyncio.wait({working, told}, timeout=left_s, return_when="FIRST_COMPLETED")
        finally:
            told.cancel()
            working.cancel()
            await asyncio.wait({working})
        if not working.cancelled():
            working.result()

    async def _validate(self, record: BatchRecord) -> None:
        place = self._place
        path = place.folder.path_of(self._id)
        endpoint = str(record.body["endpoint"])
        async with place.validating:
            checked = await asyncio.to_thread(
                validate.check, path, endpoint, place.settings, place.line_max_bytes
            )
            if checked.errors:
                await self.fail(checked.errors)
                return
            await place.batches.put_lines(self._id, checked.lines)
        changes = {"model": next(iter(checked.models))} if len(checked.models) == 1 else {}
        await self._move(
            ("validating",), "in_progress", "in_progress_at", changes, total=len(checked.lines)
        )

    async def _work(self, record: BatchRecord) -> None:
        place = self._place

        def ended(failed: bool) -> None:
            place.observer.batch_line("failed" if failed else "completed")

        path = place.folder.path_of(self._id)
        lines = LineRunner(place.batches, place.execute, place.lanes, record, path, ended)
        await lines.run_all()

    async def _finish(self, record: BatchRecord, reason: str) -> None:
        """Write the files of results, and have them seen together with the batch's end."""
        place = self._place
        sheets = completed, failed = place.files.begin(), place.files.begin()
        try:
            tokens, not_run = await self._assemble(completed, failed, reason)
            changes: JSON = {"usage": tokens.shown}
            results = []
            for sheet, kind in zip(sheets, ("output", "error"), strict=True):
                if sheet.size_bytes:
                    results.append(await self._sealed(record, sheet, kind))
                    changes[f"{kind}_file_id"] = sheet.id
        except BaseException:
            for sheet in sheets:
                await sheet.discard()
            raise
        end = "completed"
        if not_run or reason == "batch_cancelled":
            end = reason.removeprefix("batch_")
        self._doubtful = sheets
        moved = await self._move((record.status,), end, f"{end}_at", changes, results=results)
        if moved is not None:
            self._doubtful = ()
            for _ in range(not_run):
                place.observer.batch_line(reason.removeprefix("batch_"))
            await place.batches.forget_lines()

    async def _settle_doubts(self, record: BatchRecord) -> None:
        known = (record.body["output_file_id"], record.body["error_file_id"])
        for sheet in self._doubtful:
            if sheet.id not in known:
                await sheet.discard()
        self._doubtful = ()

    async def _assemble(
        self, completed: Incoming, failed: Incoming, reason: str
    ) -> tuple[output.Tokens, int]:
        tokens = output.Tokens()
        not_run = after = 0
        while results := await self._place.batches.results(self._id, after):
            found = await asyncio.to_thread(output.sort, results, reason, tokens)
            await completed.write(b"".join(found.completed))
            await failed.write(b"".join(found.failed))
            not_run += found.not_run
            after = results[-1].number
        return tokens, not_run

    async def _sealed(self, record: BatchRecord, sheet: Incoming, kind: str) -> FileRecord:
        filename = f"{self._id}_{kind}.jsonl"
        return await self._place.files.sealed(
            sheet, record.tenant, BATCH_OUTPUT, filename, record.output_keep_s
        )

    async def _move(
        self,
        sources: Collection[str],
        to: str,
        stamp: str,
        changes: JSON | None = None,
        *,
        total: int | None = None,
        results: Collection[FileRecord] = (),
    ) -> BatchRecord | None:
        changes = {**(changes or {}), stamp: int(self._place.wall_s())}
        return await self._place.batches.move(
            self._id, sources, to, total=total, changes=changes, results=tuple(results)
        )
