"""One call from its admission to its settlement."""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import orjson

from serve.admission.authenticate import revoked
from serve.admission.entrance import Ticket
from serve.core.call import BACKGROUND, STANDING, Call, Timeline
from serve.core.errors import Draining, RateLimited, RequestError, Shed, StorageUnavailable
from serve.engines.capacity import takes_priority
from serve.pipeline.outcome import outcome_of
from serve.served import Served

if TYPE_CHECKING:
    from serve.pipeline.run import Pipeline

JSON = dict[str, Any]

GENERATING: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Engines' addresses where answers are written, which take tokens of their own."""
SALTED: Final = GENERATING | {"/v1/embeddings", "/v1/score", "/v1/rerank"}
"""Engines' addresses where what is computed of a prompt is kept for the next."""
PRIORITIES: Final = {"priority": -1, "default": 0, "flex": 1}
"""What vLLM is told of a request's tier: the smaller goes first."""


class Passage:
    """One call from its admission to its settlement, which happens once, however it ends.

    Raises what `Entrance.enter` does where it is not admitted, StorageUnavailable where nothing
    can be accounted for, Draining where the drain's deadline ends it, and KeyRevoked.
    """

    __slots__ = (
        "_background", "_begun", "_body", "_call", "_pipeline", "_salt", "_served", "_task",
        "_ticket", "_timeline", "_told", "_withdrawn",
    )  # fmt: skip

    def __init__(self, pipeline: "Pipeline", served: Served, call: Call) -> None:
        self._pipeline = pipeline
        self._served = served
        self._call = call
        self._salt: JSON = {}
        if call.path in SALTED:
            self._salt = {"cache_salt": pipeline.salts.of(call.principal.tenant)}
        self._body = orjson.dumps({**call.body, **self._salt})
        self._background = BACKGROUND.get()
        self._begun = self._withdrawn = False
        self._told: asyncio.Future[Shed | None] | None = None
        """Set while it waits for its turn."""

    def __enter__(self) -> Timeline:
        call, meter = self._call, self._pipeline.meter
        try:
            self._pipeline.keys.check(call.principal)
            self._ticket = self._admitted()
            try:
                self._timeline = meter.open(call, len(self._body))
            except StorageUnavailable:
                self._pipeline.entrance.cancel(call, self._ticket, background=self._background)
                raise
        except RequestError as error:
            meter.refused(call.endpoint, outcome_of(error), call.model_id)
            raise
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if not self._ticket.place.running:
            self._told = task.get_loop().create_future()
        self._pipeline.running[task] = self
        return self._timeline

    def _admitted(self) -> Ticket:
        call, entrance = self._call, self._pipeline.entrance
        goal = self._pipeline.goal(self._served, call)
        said = STANDING.get()
        try:
            ticket = entrance.enter(
                call, goal, len(self._body), self._tell, background=self._background
            )
        except RateLimited:
            if said is not None:
                said[:] = [entrance.standing(call, goal)]
            raise
        if said is not None:
            said[:] = [ticket.standing]
        return ticket

    def withdraw(self, keys: Collection[str]) -> None:
        """End it where it is one of these keys that asks."""
        if self._call.principal.id in keys:
            self._withdrawn = True
            self._task.cancel()

    def _tell(self, error: Shed | None) -> None:
        if self._told is not None and not self._told.done():
            self._told.set_result(error)

    @property
    def waits(self) -> bool:
        """Its turn has not come yet."""
        return self._told is not None

    async def turn(self) -> None:
        """Wait for its turn; raises Shed where it is sent away instead."""
        meter, kind = self._pipeline.meter, self._ticket.place.kind
        if self._told is None:
            if not self._begun:
                self._begun = True
                meter.turn(self._timeline, kind, waited=False)
            return
        try:
            async with asyncio.timeout(self._pipeline.queue_wait_s):
                error = await self._told
        except TimeoutError:
            error = Shed(
                f"no turn in {self._pipeline.queue_wait_s:g} s (limits.queue_wait_s); try again "
                "later",
                retry_after_s=self._ticket.line.clears_in_s,
            )
        if error is not None:
            raise error
        self._told, self._begun = None, True
        meter.turn(self._timeline, kind, waited=True)

    def body(self, served: Served, call: Call) -> bytes:
        """What the engine is sent."""
        more: JSON = {}
        if call.path in GENERATING:
            tier = "flex" if self._background else call.tier
            if PRIORITIES[tier] and takes_priority(served.model):
                more["priority"] = PRIORITIES[tier]
            if call.max_output_tokens is None:
                more |= self._narrowed(served, call)
        if call is self._call and not more:
            return self._body
        return orjson.dumps({**call.body, **more, **self._salt})

    def _narrowed(self, served: Served, call: Call) -> JSON:
        """A bound for an answer that has none, where the tenant may not use all of the context."""
        context_tokens = self._served.guard.context_tokens
        if context_tokens >= served.model.config.context_tokens or "max_tokens" in call.body:
            return {}
        room = max(1, context_tokens - self._ticket.estimate.input)
        return {"max_completion_tokens": min(room, call.body.get("max_completion_tokens", room))}

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if error is not None:
                self._fail(error)
        finally:
            self._pipeline.running.pop(self._task, None)
            self._leave()
            # What its client waits for comes first: the end of the answer.
            settle = self._pipeline.meter.settle
            asyncio.get_running_loop().call_soon(settle, self._call, self._timeline)

    def _leave(self) -> None:
        usage = self._timeline.usage
        # Who leaves in the middle of an answer is not given its tokens back.
        unknown = self._timeline.outcome == "cancelled" and not usage.prompt
        self._pipeline.entrance.leave(
            self._call,
            self._ticket,
            None if unknown else usage,
            background=self._background,
        )

    def _fail(self, error: BaseException) -> None:
        timeline = self._timeline
        match error:
            case asyncio.CancelledError() if self._pipeline.expired:
                timeline.outcome = "drained"
                self._task.uncancel()
                raise Draining("this server stopped before the answer was whole") from None
            case asyncio.CancelledError() if self._withdrawn:
                timeline.outcome = "revoked"
                self._task.uncancel()
                raise revoked(self._call.principal.key) from None
            case asyncio.CancelledError():
                timeline.outcome = "cancelled"
            case RequestError():
                timeline.outcome = outcome_of(error)
            case _:
                timeline.outcome = "internal_error"
