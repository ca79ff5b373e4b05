"""The path of one request: admit → check the context → generate → stream → meter.

Every accepted request ends in exactly one of a result, a typed error or the client's own
cancel, and is settled once, here, whichever it was. A request that has produced nothing when
its engine dies is run again on the next one, and then on one more.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from serve.admission.authenticate import Authenticator
from serve.admission.entrance import Entrance, Goal
from serve.admission.gate import Gate
from serve.admission.line import Capacity
from serve.admission.routes import Facts
from serve.admission.salt import Salts
from serve.core.call import Call, Principal, Sink, Timeline
from serve.core.errors import (
    EngineError,
    EngineUnavailable,
)
from serve.core.usage import Usage
from serve.engines.backend import Claim
from serve.engines.capacity import CacheSizes, streams_of
from serve.engines.client import EngineClient
from serve.engines.connection import Connection
from serve.engines.states import State
from serve.metering.meter import Meter
from serve.pipeline.passage import GENERATING, Passage
from serve.pipeline.published import Published
from serve.pipeline.tries import Tries
from serve.served import Served
from serve.settings.routes import Route
from serve.stream.answer import JSON, Shape, chat_answer, completion_answer
from serve.stream.chunks import ChatChunks, ChunkStream, CompletionChunks
from serve.stream.comments import Comments
from serve.stream.refusal import refusal
from serve.stream.sse import Decoder

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


_WAITS_FOR: Final = {State.STARTING: "loading", State.SLEEPING: "waking"}


class Pipeline(Published):
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
        super().__init__(served, routes)
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
        self.running: dict[asyncio.Task[object], Passage] = {}
        self.expired = False
        """The drain's deadline has passed."""

    def route(self, name: str, facts: Callable[[], Facts], principal: Principal) -> Served:
        """The model that a name means, or that the rules of a route pick, with no more of its
        context than the principal's tenant may use."""
        served = super().route(name, facts, principal)
        model = served.model.config.name
        context_tokens = self.entrance.context_tokens(principal.tenant, model)
        if context_tokens is None or context_tokens >= served.guard.context_tokens:
            return served
        return replace(served, guard=served.guard.within(context_tokens))

    def tier(self, asked: str | None, principal: Principal) -> str:
        """The service tier that a request is served in."""
        return self.entrance.tier(principal.tenant, asked)

    def withdraw(self, keys: Collection[str]) -> None:
        """End what is being answered to the keys of these ids, with a typed error."""
        if keys:
            for one in list(self.running.values()):
                one.withdraw(keys)

    async def answer(self, served: Served, call: Call, answerer: Answerer | None = None) -> JSON:
        """Run to the end and return the whole answer's object.

        `answerer` makes it, and the usage, of what the engine answered; without one the call's
        endpoint decides.
        """
        passage = Passage(self, served, call)
        with passage as timeline:
            lost: EngineClient | None = None
            tries = Tries()
            await passage.turn()
            while True:
                served, call, claim = await self._claim(served, call, lost)
                timeline.model_id = call.model_id
                body = passage.body(served, call)
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
            timeline.provenance, timeline.said = served.provenance, engine
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
        passage = Passage(self, served, call)
        with passage as timeline:
            lost: EngineClient | None = None
            tries = Tries()
            while True:
                comments = Comments(sink, partial(self._progress, served, call, passage))
                try:
                    await passage.turn()
                    served, call, claim = await self._claim(served, call, lost)
                finally:
                    await comments.end()
                timeline.model_id, timeline.fingerprint = call.model_id, served.fingerprint
                timeline.provenance = served.provenance
                body = passage.body(served, call)
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
            served, call = self.present(served, call)
            try:
                left_s = max(0.0, deadline_s - time.monotonic())
                return served, call, await served.backend.claim(call, left_s, lost)
            except EngineUnavailable:
                if self.present(served, call)[0] is served:
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

    def _progress(self, served: Served, call: Call, passage: Passage, waited_s: float) -> str:
        """What a request waits for, and for how long it may."""
        if passage.waits:
            return f"waiting for a turn, {waited_s:.0f} s"
        now, _ = self.present(served, call)
        status = now.backend.status
        doing = _WAITS_FOR.get(status.state, "waiting for")
        said = f"{doing} {now.id}, {waited_s:.0f} s"
        if status.ready_in_s is None:
            return said
        return f"{said} of about {waited_s + status.ready_in_s:.0f} s"

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
            timeline.said = chunks.said
        if not chunks.finished:
            raise EngineError("the model's process ended this answer before it was whole")


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
