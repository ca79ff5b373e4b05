"""The path of one request: admit → check the context → generate → stream → meter.

Every accepted request ends in exactly one of a result, a typed error or the client's own
cancel, and is settled once, here, whichever it was. A request that has produced nothing when
its engine dies is run again on the next one, and then on one more.
"""

import asyncio
import difflib
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from serve.admission.authenticate import Authenticator, revoked
from serve.admission.entrance import Entrance, Goal, Ticket
from serve.admission.gate import Gate
from serve.admission.line import Capacity
from serve.admission.routes import Facts, choose
from serve.admission.salt import Salts
from serve.core.call import BACKGROUND, STANDING, Call, Principal, Sink, Timeline
from serve.core.errors import (
    BudgetSpent,
    Draining,
    EngineError,
    EngineUnavailable,
    KeyRevoked,
    ModelNotFound,
    Overloaded,
    RateLimited,
    RequestError,
    Shed,
    StorageUnavailable,
)
from serve.core.usage import Usage
from serve.engines.backend import Claim
from serve.engines.capacity import CacheSizes, streams_of, takes_priority
from serve.engines.client import EngineClient
from serve.engines.connection import Connection, ConnectionLost
from serve.engines.states import State
from serve.metering.meter import Meter
from serve.served import Served
from serve.settings.routes import Route
from serve.stream.answer import JSON, Shape, chat_answer, completion_answer
from serve.stream.chunks import ChatChunks, ChunkStream, CompletionChunks
from serve.stream.comments import Comments
from serve.stream.refusal import refusal
from serve.stream.sse import Decoder

ATTEMPTS: Final = 3
"""Engines that one request may lose before it has produced anything: it may be what ends them."""

FINISH_GRACE_S: Final = 2.0
"""What a request ended at the drain's deadline has to tell its client so."""

NOTE_EVERY_S: Final = 0.5
"""How often the ledger is told what a stream has used so far: what a crash may leave uncounted."""


Answerer = Callable[[JSON, Shape], tuple[JSON, Usage]]
Chunker = Callable[[Shape], ChunkStream]
_ANSWERERS: Final[Mapping[str, Answerer]] = {
    "chat.completions": chat_answer,
    "completions": completion_answer,
}
_CHUNKERS: Final[Mapping[str, Chunker]] = {
    "chat.completions": ChatChunks,
    "completions": CompletionChunks,
}


GENERATING: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Engines' addresses where answers are written, which take tokens of their own."""
SALTED: Final = GENERATING | {"/v1/embeddings", "/v1/score", "/v1/rerank"}
"""Engines' addresses where what is computed of a prompt is kept for the next."""
PRIORITIES: Final = {"priority": -1, "default": 0, "flex": 1}
"""What vLLM is told of a request's tier: the smaller goes first."""

_WAITS_FOR: Final = {State.STARTING: "loading", State.SLEEPING: "waking"}


class Pipeline:
    """Runs calls on the site's engines."""

    def __init__(
        self,
        served: tuple[Served, ...],
        gate: Gate,
        meter: Meter,
        ready_wait_s: float,
        routes: tuple[Route, ...] = (),
        entrance: Entrance | None = None,
        *,
        queue_wait_s: float = math.inf,
        keys: Authenticator | None = None,
        salts: Salts | None = None,
    ) -> None:
        self.publish(served, routes)
        self.gate = gate
        self.entrance = entrance or Entrance(gate)
        self.queue_wait_s = queue_wait_s
        self.keys = keys or Authenticator(required=False)
        """Knows whose keys are good still."""
        self.salts = salts or Salts()
        self._caches = CacheSizes()
        self.meter = meter
        self.ready_wait_s = ready_wait_s
        self.changing = asyncio.Lock()
        """Held by who makes what is served next out of what is served now, until it has published
        that."""
        self.running: dict[asyncio.Task[object], _Metered] = {}
        self.expired = False
        """The drain's deadline has passed."""

    def publish(self, served: tuple[Served, ...], routes: tuple[Route, ...] | None = None) -> None:
        """From now on these are the models; requests in hand keep the one they were given.

        `routes` replaces the routes too, where it is given.
        """
        if routes is not None:
            self.routes = {route.name: route for route in routes}
        self._by_name = {
            name: one for base in served for one in (base, *base.adapters) for name in one.names
        }
        self.served = served

    def names_for(self, principal: Principal) -> tuple[str, ...]:
        """Every model name that this key may ask for."""
        grant = principal.grant
        if grant.models is None:
            return tuple(self._by_name)
        return tuple(n for n, one in self._by_name.items() if grant.covers((n, *one.names)))

    def routes_for(self, principal: Principal) -> tuple[Route, ...]:
        """The routes that this key may ask for."""
        grant = principal.grant
        return tuple(one for one in self.routes.values() if grant.covers((one.name,)))

    def resolve(self, name: str, principal: Principal) -> Served:
        """The model a client means; raises ModelNotFound, never picks another."""
        found = self._by_name.get(name)
        if found is None or not principal.grant.covers((name, *found.names)):
            raise self._not_found(name, principal)
        return found

    def route(self, name: str, facts: Callable[[], Facts], principal: Principal) -> Served:
        """As `resolve`, and where the name is a route's, the model that its rules pick.

        Who may ask a route may ask what it picks.
        """
        route = self.routes.get(name)
        if route is None:
            return self._within(self.resolve(name, principal), principal)
        choice = choose(route, facts())
        found = self._by_name.get(choice.model)
        if found is None or not principal.grant.covers((name, choice.model, *found.names)):
            raise self._not_found(name, principal)
        return self._within(found, principal).chosen_by(choice)

    def _within(self, served: Served, principal: Principal) -> Served:
        """The same, with no more of its context than the principal's tenant may use."""
        name = served.model.config.name
        context_tokens = self.entrance.context_tokens(principal.tenant, name)
        if context_tokens is None or context_tokens >= served.guard.context_tokens:
            return served
        return replace(served, guard=served.guard.within(context_tokens))

    def tier(self, asked: str | None, principal: Principal) -> str:
        """The service tier that a request is served in."""
        return self.entrance.tier(principal.tenant, asked)

    def _not_found(self, name: str, principal: Principal) -> ModelNotFound:
        routes = (one.name for one in self.routes_for(principal))
        there = (*self.names_for(principal), *routes)
        near = difflib.get_close_matches(name[:200], there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        if principal.grant.models is None:
            words, list_of = "does not exist here", "Served"
        else:
            words, list_of = "does not exist here or is not for this key", "The key is for"
        return ModelNotFound(
            f"The model {name[:200]!r} {words}.{hint} {list_of}: {', '.join(there) or 'none'}.",
            param="model",
        )

    def withdraw(self, keys: Collection[str]) -> None:
        """End what is being answered to the keys of these ids, with a typed error."""
        if keys:
            for one in list(self.running.values()):
                one.withdraw(keys)

    def _salted(self, call: Call) -> Call:
        """The same, sent to the engine with the salt of its tenant's cache."""
        if call.path not in SALTED:
            return call
        body = {**call.body, "cache_salt": self.salts.of(call.principal.tenant)}
        return replace(call, body=body)

    async def answer(self, served: Served, call: Call, answerer: Answerer | None = None) -> JSON:
        """Run to the end and return the whole answer's object.

        `answerer` makes it, and the usage, of what the engine answered; without one the call's
        endpoint decides.
        """
        call = self._salted(call)
        metered = _Metered(self, served, call)
        with metered as timeline:
            lost: EngineClient | None = None
            tries = _Tries()
            await metered.turn()
            while True:
                served, call, claim = await self._claim(served, call, lost)
                timeline.model_id = call.model_id
                body = metered.body(served, call)
                try:
                    engine = await self._whole(claim.client, call, body)
                    break
                except EngineError as error:
                    if not await tries.again(error, claim.client):
                        raise
                    lost = claim.client
                finally:
                    claim.release()
            timeline.fingerprint, timeline.finish = served.fingerprint, _finish(engine)
            shape = _shape(served, call)
            answer, timeline.usage = (answerer or _ANSWERERS[call.endpoint])(engine, shape)
            await timeline.reservation.durable()
            return answer

    async def stream(
        self, served: Served, call: Call, sink: Sink, chunker: Chunker | None = None
    ) -> None:
        """Run and write frames to the sink as they come, and comments while there are none yet.

        `chunker` makes what turns the engine's events into those frames, anew for each engine
        that is tried; without one the call's endpoint decides. Errors before the first of either
        are raised while `sink.started` is still false.
        """
        call = self._salted(call)
        metered = _Metered(self, served, call)
        with metered as timeline:
            lost: EngineClient | None = None
            tries = _Tries()
            while True:
                comments = Comments(sink, partial(self._progress, served, call, metered))
                try:
                    await metered.turn()
                    served, call, claim = await self._claim(served, call, lost)
                finally:
                    await comments.end()
                timeline.model_id, timeline.fingerprint = call.model_id, served.fingerprint
                body = metered.body(served, call)
                chunks = (chunker or _CHUNKERS[call.endpoint])(_shape(served, call))
                try:
                    await self._relay(claim.client, call, chunks, body, sink, timeline)
                    break
                except EngineError as error:
                    if sink.produced or not await tries.again(error, claim.client):
                        raise
                    lost = claim.client
                finally:
                    claim.release()

    async def finish(self, timeout_s: float) -> None:
        """Wait for what runs to end; what has not by then ends with a typed error.

        Call `gate.drain` first, so that nothing new begins.
        """
        if self.running and timeout_s > 0:
            await asyncio.wait(self.running, timeout=timeout_s)
        self.expired = True
        for task in self.running:
            task.cancel()
        if self.running:
            await asyncio.wait(self.running, timeout=FINISH_GRACE_S)

    async def _claim(
        self, served: Served, call: Call, lost: EngineClient | None
    ) -> tuple[Served, Call, Claim]:
        """Hold an engine of what the request's name means now, and run the call as its.

        What was published meanwhile, while the request was checked or waited, counts.
        """
        deadline_s = time.monotonic() + self.ready_wait_s
        while True:
            served, call = self._present(served, call)
            try:
                left_s = max(0.0, deadline_s - time.monotonic())
                return served, call, await served.backend.claim(call, left_s, lost)
            except EngineUnavailable:
                if self._present(served, call)[0] is served:
                    raise

    def goal(self, served: Served, call: Call) -> Goal:
        """What a request needs to be admitted for."""
        model, backend = served.model, served.backend
        return Goal(
            line=model.id,
            model=model.config.name,
            context_tokens=served.guard.context_tokens,
            capacity=Capacity(*streams_of(model, backend), self._caches.of(backend)),
            generates=call.path in GENERATING,
        )

    def _progress(self, served: Served, call: Call, metered: "_Metered", waited_s: float) -> str:
        """What a request waits for, and for how long it may."""
        if metered.waits:
            return f"waiting for a turn, {waited_s:.0f} s"
        now, _ = self._present(served, call)
        status = now.backend.status
        doing = _WAITS_FOR.get(status.state, "waiting for")
        said = f"{doing} {now.id}, {waited_s:.0f} s"
        if status.ready_in_s is None:
            return said
        return f"{said} of about {waited_s + status.ready_in_s:.0f} s"

    def _present(self, served: Served, call: Call) -> tuple[Served, Call]:
        now = self._by_name.get(call.asked) or self._by_name.get(served.id)
        if now is None or now.backend is served.backend:
            return served, call
        return now, replace(call, model_id=now.id, body={**call.body, "model": now.engine_model})

    async def _whole(self, client: EngineClient, call: Call, body: bytes) -> JSON:
        connection = await client.post(call.path, body)
        try:
            data = await connection.read()
        finally:
            client.release(connection)
        if connection.status != 200:
            raise refusal(call, connection.status, data)
        answer: JSON = orjson.loads(data)
        return answer

    async def _relay(
        self,
        client: EngineClient,
        call: Call,
        chunks: ChunkStream,
        body: bytes,
        sink: Sink,
        timeline: Timeline,
    ) -> None:
        connection = await client.post(call.path, body)
        try:
            if connection.status != 200:
                raise refusal(call, connection.status, await connection.read())
            await self._pump(connection, chunks, sink, timeline)
        finally:
            client.release(connection)

    async def _pump(
        self, connection: Connection, chunks: ChunkStream, sink: Sink, timeline: Timeline
    ) -> None:
        decoder, reservation = Decoder(), timeline.reservation
        durable, noted_s = False, 0.0
        # Frames before the first token (the role) wait for it: until then the request can
        # still be run again, or refused with a status.
        held = b""
        try:
            while data := await connection.next_bytes():
                frames = chunks.feed(decoder.feed(data))
                if chunks.tokens_seen:
                    self.meter.tokens(timeline)
                elif not chunks.finished:
                    held += frames
                    frames = b""
                if chunks.finished:
                    # Once its end has been sent, nothing of it may be lost any more.
                    reservation.note(chunks.usage or Usage())
                if frames:
                    if not durable:
                        await reservation.durable()
                        durable = True
                    await sink.write(held + frames)
                    held = b""
                    connection.later = True
                now_s = timeline.last_token_s or 0.0
                if now_s - noted_s >= NOTE_EVERY_S and not chunks.finished:
                    noted_s = now_s
                    reservation.note(chunks.usage or Usage())
                if chunks.failure is not None:
                    raise chunks.failure
        finally:
            timeline.usage, timeline.finish = chunks.usage or Usage(), chunks.finish
        if not chunks.finished:
            raise EngineError("the model's process ended this answer before it was whole")


class _Tries:
    """How often one request has failed on the way to its first output."""

    __slots__ = ("_lost", "_unreached")

    def __init__(self) -> None:
        self._lost = self._unreached = 0

    async def again(self, error: EngineError, client: EngineClient) -> bool:
        """Count this failure of an engine; whether the request may be tried once more.

        An engine that could not be reached has not seen the request and tells nothing about it.
        One that lives on has given its answer, and would give it again.
        """
        if isinstance(error, EngineUnavailable):
            self._unreached += 1
        elif isinstance(error, ConnectionLost) or await client.is_dying():
            self._lost += 1
        else:
            return False
        return max(self._lost, self._unreached) < ATTEMPTS


class _Metered:
    """One call from its admission to its settlement, which happens once, however it ends.

    Raises what `Entrance.enter` does where it is not admitted, StorageUnavailable where nothing
    can be accounted for, Draining where the drain's deadline ends it, and KeyRevoked.
    """

    __slots__ = (
        "_background", "_begun", "_body", "_call", "_pipeline", "_served", "_task", "_ticket",
        "_timeline", "_told", "_withdrawn",
    )  # fmt: skip

    def __init__(self, pipeline: Pipeline, served: Served, call: Call) -> None:
        self._pipeline = pipeline
        self._served = served
        self._call = call
        self._body = orjson.dumps(call.body)
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
                self._timeline = meter.open(call)
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
        if more:
            return orjson.dumps({**call.body, **more})
        return self._body if call is self._call else orjson.dumps(call.body)

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


def _finish(engine: JSON) -> str:
    """Why the choices of an engine's whole answer ended, each reason once."""
    choices = engine.get("choices") or ()
    return ",".join(sorted({str(one.get("finish_reason")) for one in choices}))


def _shape(served: Served, call: Call) -> Shape:
    return Shape(
        id=("chatcmpl-" if call.endpoint == "chat.completions" else "cmpl-")
        + call.request_id.removeprefix("req_"),
        model=call.model_id,
        fingerprint=served.fingerprint,
        created=int(time.time()),
        choices=call.choices,
        include_usage=call.include_usage,
        forced_tool=call.forced_tool,
        strict_tools=call.strict_tools,
        echo=call.echo,
        tier=call.tier,
    )


_OUTCOMES: Final[tuple[tuple[type[RequestError], str], ...]] = (
    (Draining, "drained"),
    (Overloaded, "overloaded"),
    (RateLimited, "rate_limited"),
    (BudgetSpent, "rate_limited"),
    (EngineUnavailable, "not_ready"),
    (EngineError, "engine_error"),
    (StorageUnavailable, "storage_unavailable"),
    (KeyRevoked, "revoked"),
)
"""The first that an error is of."""


def outcome_of(error: RequestError) -> str:
    """The word under which an error is counted."""
    return next((word for kind, word in _OUTCOMES if isinstance(error, kind)), "refused")
