"""The path of one request: admit → check the context → generate → stream → meter.

Every accepted request ends in exactly one of a result, a typed error or the client's own
cancel, and is settled once, here, whichever it was. A request that has produced nothing when
its engine dies is run again on the next one, and then on one more.
"""

import asyncio
import difflib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from serve.admission.gate import Gate
from serve.admission.routes import Facts, choose
from serve.core.call import BACKGROUND, Call, Principal, Sink, Timeline
from serve.core.errors import (
    Draining,
    EngineError,
    EngineUnavailable,
    ModelNotFound,
    Overloaded,
    RequestError,
)
from serve.core.usage import Usage
from serve.engines.backend import Claim
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
    ) -> None:
        self.publish(served, routes)
        self.gate = gate
        self.meter = meter
        self.ready_wait_s = ready_wait_s
        self.changing = asyncio.Lock()
        """Held by who makes what is served next out of what is served now, until it has published
        that."""
        self.running: set[asyncio.Task[object]] = set()
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
        """Every model name that this key may ask for; today every key may use every model."""
        del principal  # whose list it is, once keys have one
        return tuple(self._by_name)

    def resolve(self, name: str, principal: Principal) -> Served:
        """The model a client means; raises ModelNotFound, never picks another."""
        found = self._by_name.get(name)
        if found is None:
            raise self._not_found(name, principal)
        return found

    def route(self, name: str, facts: Callable[[], Facts], principal: Principal) -> Served:
        """As `resolve`, and where the name is a route's, the model that its rules pick."""
        route = self.routes.get(name)
        if route is None:
            return self.resolve(name, principal)
        choice = choose(route, facts())
        return self.resolve(choice.model, principal).chosen_by(choice)

    def _not_found(self, name: str, principal: Principal) -> ModelNotFound:
        there = (*self.names_for(principal), *self.routes)
        near = difflib.get_close_matches(name[:200], there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return ModelNotFound(
            f"The model {name[:200]!r} does not exist here.{hint} Served: {', '.join(there)}.",
            param="model",
        )

    async def answer(self, served: Served, call: Call, answerer: Answerer | None = None) -> JSON:
        """Run to the end and return the whole answer's object.

        `answerer` makes it, and the usage, of what the engine answered; without one the call's
        endpoint decides.
        """
        with _Metered(self, call) as timeline:
            lost: EngineClient | None = None
            tries = _Tries()
            while True:
                served, call, claim = await self._claim(served, call, lost)
                timeline.model_id = call.model_id
                body = orjson.dumps(call.body)
                try:
                    engine = await self._whole(claim.client, call, body)
                    break
                except EngineError as error:
                    if not await tries.again(error, claim.client):
                        raise
                    lost = claim.client
                finally:
                    claim.release()
            shape = _shape(served, call)
            answer, timeline.usage = (answerer or _ANSWERERS[call.endpoint])(engine, shape)
            return answer

    async def stream(
        self, served: Served, call: Call, sink: Sink, chunker: Chunker | None = None
    ) -> None:
        """Run and write frames to the sink as they come, and comments while there are none yet.

        `chunker` makes what turns the engine's events into those frames, anew for each engine
        that is tried; without one the call's endpoint decides. Errors before the first of either
        are raised while `sink.started` is still false.
        """
        with _Metered(self, call) as timeline:
            lost: EngineClient | None = None
            tries = _Tries()
            while True:
                comments = Comments(sink, partial(self._progress, served, call))
                try:
                    served, call, claim = await self._claim(served, call, lost)
                finally:
                    await comments.end()
                timeline.model_id = call.model_id
                body = orjson.dumps(call.body)
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

    def _progress(self, served: Served, call: Call, waited_s: float) -> str:
        """What a request waits for, and for how long it may."""
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
        decoder = Decoder()
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
                if frames:
                    await sink.write(held + frames)
                    held = b""
                    connection.later = True
                if chunks.failure is not None:
                    raise chunks.failure
        finally:
            if chunks.usage is not None:
                timeline.usage = chunks.usage
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

    Raises Overloaded or Draining where it is not admitted, and Draining where the drain's deadline
    ends it.
    """

    __slots__ = ("_background", "_call", "_pipeline", "_task", "_timeline")

    def __init__(self, pipeline: Pipeline, call: Call) -> None:
        self._pipeline = pipeline
        self._call = call
        self._background = BACKGROUND.get()

    def __enter__(self) -> Timeline:
        call, meter = self._call, self._pipeline.meter
        try:
            self._pipeline.gate.enter(call.model_id, background=self._background)
        except Overloaded as error:
            meter.refused(call.endpoint, outcome_of(error), call.model_id)
            raise
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._pipeline.running.add(task)
        self._timeline = meter.open(call)
        return self._timeline

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if error is not None:
                self._fail(error)
        finally:
            self._pipeline.running.discard(self._task)
            self._pipeline.gate.leave(self._call.model_id, background=self._background)
            self._pipeline.meter.settle(self._call, self._timeline)

    def _fail(self, error: BaseException) -> None:
        timeline = self._timeline
        match error:
            case asyncio.CancelledError() if self._pipeline.expired:
                timeline.outcome = "drained"
                self._task.uncancel()
                raise Draining("this server stopped before the answer was whole") from None
            case asyncio.CancelledError():
                timeline.outcome = "cancelled"
            case RequestError():
                timeline.outcome = outcome_of(error)
            case _:
                timeline.outcome = "internal_error"


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
    )


def outcome_of(error: RequestError) -> str:
    """The word under which an error is counted."""
    match error:
        case Draining():
            return "drained"
        case Overloaded():
            return "overloaded"
        case EngineUnavailable():
            return "not_ready"
        case EngineError():
            return "engine_error"
        case _:
            return "refused"
