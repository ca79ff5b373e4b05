"""Responses that run in the background: tasks of this server, which outlive their clients.

Every event is kept before anyone reads it, so that what a client has seen is still so after a
restart. A response of which nobody has seen any output by then is run again; another ends failed.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from serve.core.errors import (
    Draining,
    InvalidRequest,
    NotFound,
    Overloaded,
    RequestError,
    StorageUnavailable,
)
from serve.respond.kept import request_of
from serve.respond.leftover import close, has_output, missing_end, turn_again
from serve.respond.run import Turns
from serve.respond.runs import Run, check_number, replay
from serve.respond.turn import Turn
from serve.respond.wire import event_of
from serve.state.records import ResponseRecord

log = logging.getLogger("inhouse.respond")

JSON = dict[str, Any]

RUNNING_MAX: Final = 64
"""Responses that are worked on at once; the others are queued."""
WAITING_MAX: Final = 1000
"""Responses in hand, queued or worked on; more are refused."""
AGAIN_AFTER_S: Final = 1.0
"""When a model's queue is full of requests that somebody waits for."""
OVERLOADED_MAX_S: Final = 600.0
SETTLE_S: Final = 5.0
"""What a run that is ended from outside has to write down how it ended."""


class Background:
    """All background responses of this server."""

    def __init__(
        self, turns: Turns, *, running_max: int = RUNNING_MAX, waiting_max: int = WAITING_MAX
    ) -> None:
        self._turns = turns
        self._slots = asyncio.Semaphore(running_max)
        self._waiting_max = waiting_max
        self._runs: dict[str, Run] = {}
        self._closing = False

    async def submit(self, turn: Turn) -> tuple[JSON, Run]:
        """Queue it; the response object as it is then, and what can be followed.

        Raises Overloaded, Draining, Conflict or StorageUnavailable.
        """
        try:
            self._check_room()
        except Overloaded:
            await self._turns.release(turn)
            raise
        run = Run(turn, [], self._turns)
        self._runs[turn.answer.id] = run
        try:
            body = turn.answer.object("queued")
            await self._turns.queue(turn, body, _request_of(turn))
            turn.answer.queue()
            await run.publish(turn.answer.take())
        except BaseException:
            del self._runs[turn.answer.id]
            with contextlib.suppress(RequestError):
                await self._turns.responses.delete(turn.principal.tenant, turn.answer.id)
            await self._turns.release(turn)
            raise
        self._start(run)
        return body, run

    def _check_room(self) -> None:
        if self._closing or self._turns.pipeline.gate.draining:
            raise Draining("this server is stopping; send the request to another", retry_after_s=5)
        if len(self._runs) >= self._waiting_max:
            raise Overloaded(
                f"{self._waiting_max} background responses are in hand already; try again later",
                retry_after_s=10,
            )

    def check_ended(self, tenant: str, response_id: str | None) -> None:
        """Raise InvalidRequest for a response that nothing can follow on yet."""
        run = self._runs.get(response_id or "")
        if run is not None and run.turn.principal.tenant == tenant:
            raise InvalidRequest(
                f"Previous response with id '{response_id}' is not completed yet.",
                param="previous_response_id",
            )

    async def follow(self, tenant: str, response_id: str, after: int) -> AsyncIterator[bytes]:
        """Its events with a number above `after`: those there are, then those that come.

        Raises NotFound, and InvalidRequest where it has no events, or none with that number.
        """
        run = self._runs.get(response_id)
        if run is not None and run.turn.principal.tenant == tenant:
            check_number(after, len(run.frames))
            return run.follow(after)
        record = await self._turns.responses.get(tenant, response_id)
        if not record.background:
            raise InvalidRequest(
                "This response cannot be streamed because it was not created with background=true.",
                param="stream",
            )
        frames = [one.frame for one in await self._turns.responses.events(tenant, response_id, -1)]
        if record.status not in ("queued", "in_progress"):
            frames += missing_end(frames, record)
        check_number(after, len(frames))
        return replay(frames[after + 1 :])

    async def cancel(self, tenant: str, response_id: str) -> JSON:
        """The response object once it is cancelled, or as it ended before.

        Raises NotFound, and InvalidRequest for one that does not run in the background.
        """
        record = await self._turns.responses.get(tenant, response_id)
        if not record.background:
            raise InvalidRequest("Cannot cancel a synchronous response.", param="response_id")
        run = self._runs.get(response_id)
        if run is None:
            return record.body
        await self._cancel(run)
        return (await self._turns.responses.get(tenant, response_id)).body

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget it; one that runs is cancelled first. Raises NotFound."""
        run = self._runs.get(response_id)
        if run is not None and run.turn.principal.tenant == tenant:
            await self._cancel(run)
        await self._turns.responses.delete(tenant, response_id)

    async def drop(self, tenant: str) -> int:
        """Work on nothing of this tenant any more; how many were worked on.

        What becomes of what is kept is the caller's business.
        """
        runs = [run for run in self._runs.values() if run.turn.principal.tenant == tenant]
        await asyncio.sleep(0)  # a task that has never run could not end
        for run in runs:
            run.drop()
        await asyncio.gather(*(run.ended.wait() for run in runs if run.task is not None))
        return len(runs)

    async def resume(self) -> None:
        """Take up what gateways that are not there any more have left unfinished.

        Call it before requests are taken, and now and then.
        """
        if self._closing:
            return
        for record in await self._turns.responses.take_over():
            try:
                if record.id not in self._runs:
                    await self._take_up(record)
            except StorageUnavailable as error:
                log.warning("%s is left as it is: %s", record.id, error.message)

    async def close(self) -> None:
        """Let go of what has not ended: the next process takes it up."""
        self._closing = True
        await asyncio.sleep(0)
        runs = [run for run in self._runs.values() if run.task is not None]
        for run in runs:
            run.stop()
        if runs:
            await asyncio.wait([run.task for run in runs if run.task], timeout=SETTLE_S)

    # Running

    def _start(self, run: Run) -> None:
        run.task = asyncio.create_task(self._work(run))

    async def _work(self, run: Run) -> None:
        turn, left = run.turn, False
        try:
            async with self._slots:
                if not run.dropped:
                    await self._begin(run)
                    await self._run(run)
        except asyncio.CancelledError:
            if run.dropped:
                log.info("a response was deleted while it ran", extra={"response": turn.answer.id})
            elif run.cancelled:
                await self._settle(run, turn.answer.cancelled())
            elif run.produced:
                error = Draining("this server stopped before the answer was whole")
                await self._settle(run, turn.answer.failed(error))
            else:
                left = True
        except Draining:
            left = True  # nothing has been produced, and the next process begins anew
        except Exception as error:
            await self._settle(run, turn.answer.failed(_told(error, turn)))
        finally:
            self._runs.pop(turn.answer.id, None)
            run.end()
            if not left:
                await self._release(turn)

    async def _release(self, turn: Turn) -> None:
        try:
            await self._turns.release(turn)
        except StorageUnavailable as error:
            log.warning("a conversation waits for the next start: %s", error.message)

    async def _begin(self, run: Run) -> None:
        answer = run.turn.answer
        if any(event_of(one)["type"] == "response.in_progress" for one in run.frames):
            return
        answer.start()
        body = answer.object("in_progress")
        await run.whole(self._turns.save(run.turn, body, _request_of(run.turn)))
        await run.publish(answer.take())

    async def _run(self, run: Run) -> None:
        deadline_s = time.monotonic() + OVERLOADED_MAX_S
        while True:
            try:
                await self._turns.run(run.turn, run)
                return
            except Draining:
                raise
            except Overloaded:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _settle(self, run: Run, final: JSON) -> None:
        """Write down an end that the run itself did not come to."""
        await run.written()
        answer = run.turn.answer
        answer.take()
        answer.number = len(run.frames)
        answer.tell_end(final)
        frames = answer.take()
        try:
            await self._turns.save(run.turn, final)
            if not run.turn.gone:
                await run.publish(frames)
        except StorageUnavailable as error:
            log.warning("the end of %s is not kept: %s", answer.id, error.message)
            run.show([frames])

    async def _cancel(self, run: Run) -> None:
        run.cancelled = True
        # A task that has never run could not write down how it ended.
        await asyncio.sleep(0)
        run.stop()
        await run.ended.wait()

    # After a restart

    async def _take_up(self, record: ResponseRecord) -> None:
        store = self._turns.responses
        with contextlib.suppress(NotFound):  # it has expired meanwhile
            sent = [one.frame for one in await store.events(record.tenant, record.id, -1)]
            try:
                if has_output(sent):
                    raise RequestError("the server stopped while it worked on this response")
                turn = await turn_again(record, sent, self._turns)
            except StorageUnavailable:
                raise
            except RequestError as error:
                await close(record, sent, error, store)
            else:
                await self._run_again(Run(turn, sent, self._turns))

    async def _run_again(self, run: Run) -> None:
        answer = run.turn.answer
        self._runs[answer.id] = run
        if not run.frames:
            answer.queue()
            await run.publish(answer.take())
        self._start(run)


def _request_of(turn: Turn) -> JSON:
    return request_of(turn.asked, turn.principal, turn.request_id)


def _told(error: Exception, turn: Turn) -> RequestError:
    if isinstance(error, RequestError):
        return error
    log.error("a response failed", exc_info=error, extra={"request_id": turn.request_id})
    return RequestError("this server failed on the request; its log says why", code="internal")
