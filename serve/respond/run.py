"""One turn: from a checked request and its history to the terminal event.

Streamed or not, in the background or not, a turn takes the same way. It is kept, and added to
its conversation, before its end is told: who has read the end can go on from there.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from serve.admission.routes import Facts
from serve.core.call import Principal, Sink
from serve.core.errors import Conflict, InvalidRequest, RequestError, StorageUnavailable
from serve.pipeline import Pipeline
from serve.respond.asked import Asked
from serve.respond.context import fitting, history_of, own_items
from serve.respond.events import Answer
from serve.respond.offer import check_servers
from serve.respond.ports import ConversationStore, Ends, ResponseStore, ToolServers
from serve.respond.prompt import images_of, messages_of, texts_of
from serve.respond.rounds import Rounds
from serve.respond.turn import Turn
from serve.served import Served
from serve.state.records import ResponseRecord

log = logging.getLogger("inhouse.respond")

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Read:
    """What is known of a request once all before it has been read."""

    served: Served
    history: tuple[JSON, ...]
    items: tuple[JSON, ...]
    messages: list[JSON]
    dropped: int


class Silent:
    """The sink of an answer that is not streamed: an engine that is lost costs it nothing."""

    started = produced = False

    async def write(self, frames: bytes) -> None:
        """Nobody reads them."""

    async def comment(self, frames: bytes) -> None:
        """Nor these."""


class Turns:
    """Prepares turns and runs them.

    `ttl_s`: seconds that a tenant's responses are kept, None for ever; `erasures`: how often what
    a tenant keeps has been erased.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        responses: ResponseStore,
        conversations: ConversationStore,
        ends: Ends,
        ttl_s: Callable[[str], float | None],
        tools: ToolServers,
        erasures: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self.pipeline = pipeline
        self.rounds = Rounds(pipeline, tools)
        self.tools = tools
        self.responses = responses
        self._conversations = conversations
        self._ends = ends
        self._ttl_s = ttl_s
        self._erasures = erasures

    async def prepare(
        self,
        asked: Asked,
        principal: Principal,
        request_id: str,
        *,
        received_s: float | None = None,
        answer: Answer | None = None,
        before: tuple[JSON, ...] | None = None,
        counted: bool = False,
    ) -> Turn:
        """All that can be refused before an engine sees it, is.

        `answer` is one that had begun before a restart; `before` are the items before this
        turn's, where they need not be looked up. A turn that is only `counted` may be longer
        than the context. Another has its conversation to itself until `release`. Raises
        RequestError.
        """
        erasures = self._erasures(principal.tenant)
        if answer is None:
            answer = Answer(asked, f"resp_{request_id.removeprefix('req_')}", time.time())
        conversation = None if counted else asked.conversation
        if conversation is not None:
            await self._conversations.begin_turn(principal.tenant, conversation, answer.id)
        try:
            read = await self._read(asked, principal, before, counted=counted)
        except BaseException:
            if conversation is not None:
                await self._conversations.end_turn(conversation, answer.id)
            raise
        answer.model = read.served.id
        answer.tier = self.pipeline.tier(asked.tier, principal)
        if received_s is None:
            received_s = time.monotonic()
        return Turn(
            asked, principal, request_id, received_s, read.served, read.history, read.items,
            read.messages, read.dropped, answer, erasures=erasures, holds=conversation is not None,
        )  # fmt: skip

    async def _read(
        self,
        asked: Asked,
        principal: Principal,
        before: tuple[JSON, ...] | None,
        *,
        counted: bool,
    ) -> _Read:
        tenant, history = principal.tenant, before
        if history is None:
            history = await history_of(asked, tenant, self.responses, self._conversations)
        items = await own_items(asked, tenant, history, self.responses)
        everything = (*history, *items)
        served = self.pipeline.route(asked.model, lambda: _facts(asked, everything), principal)
        if served.model.config.task != "generate":
            raise InvalidRequest(
                f"The model {asked.model} makes embeddings; it does not generate text.",
                param="model",
                code="unsupported_model",
            )
        if asked.server_tools:
            check_servers(asked, self.tools.terms(tenant), served)
        if counted and not asked.truncate:
            messages, dropped = messages_of(asked.instructions, everything), 0
        else:
            messages, dropped = await fitting(
                asked, everything, served.guard, served.guard.context_tokens
            )
        served.check_images(images_of(messages), "input")
        return _Read(served, history, items, messages, dropped)

    async def release(self, turn: Turn) -> None:
        """Let others take turns in its conversation, however this one has ended."""
        if turn.holds and turn.asked.conversation is not None:
            turn.holds = False
            await self._conversations.end_turn(turn.asked.conversation, turn.answer.id)

    async def run(self, turn: Turn, sink: Sink) -> JSON:
        """Write the turn's events to the sink and return its final object.

        Raises RequestError while `sink.started` is false; later errors are its end.
        """
        try:
            await self.rounds.generate(turn, sink)
            turn.settling = True
            final = turn.answer.ended()
            await self.keep(turn, final)
        except RequestError as error:
            if not sink.started:
                raise
            return await self.fail(turn, sink, error)
        except Exception:
            if not sink.started:
                raise
            log.exception("a response failed", extra={"request_id": turn.request_id})
            words = "this server failed on the request; its log says why"
            return await self.fail(turn, sink, RequestError(words, code="internal"))
        await self._tell_end(turn, sink, final)
        return final

    async def warm(self, turn: Turn, sink: Sink) -> JSON:
        """End a turn for which nothing is to be generated; it can be gone on from.

        Raises RequestError as `run` does.
        """
        final = turn.answer.unasked()
        await self.keep(turn, final)
        await self._tell_end(turn, sink, final)
        return final

    async def fail(self, turn: Turn, sink: Sink, error: RequestError) -> JSON:
        """End the turn as failed, and keep it so where that is possible."""
        turn.settling = True
        final = turn.answer.failed(error)
        try:
            await self.save(turn, final)
        except (StorageUnavailable, Conflict) as gone:
            extra = {"request_id": turn.request_id}
            log.warning("a failed response is not kept: %s", gone.message, extra=extra)
        await self._tell_end(turn, sink, final)
        return final

    async def keep(self, turn: Turn, final: JSON) -> None:
        """Save the turn's end together with what its conversation gains."""
        items: tuple[JSON, ...] = ()
        if turn.asked.conversation is not None:
            items = (*turn.items, *final["output"])
        elif not turn.asked.store:
            return
        kept = await self._ends.close(
            self._record(turn, final), items, turn.erasures, stored=turn.asked.store
        )
        turn.gone = not kept
        turn.holds = turn.holds and turn.gone

    async def queue(self, turn: Turn, body: JSON, request: JSON) -> None:
        """Keep a background response that is to be run. Raises Conflict, StorageUnavailable."""
        await self.responses.add(self._record(turn, body, request), turn.erasures)

    async def save(self, turn: Turn, body: JSON, request: JSON | None = None) -> None:
        """Keep the response as it is now, if it is to be kept.

        One that runs in the background and has been deleted stays so.
        """
        if not turn.asked.store:
            return
        record = self._record(turn, body, request)
        if record.background:
            turn.gone = not await self.responses.put(record)
        else:
            await self.responses.add(record, turn.erasures)

    def _record(self, turn: Turn, body: JSON, request: JSON | None = None) -> ResponseRecord:
        asked, answer, tenant = turn.asked, turn.answer, turn.principal.tenant
        ttl_s = self._ttl_s(tenant)
        return ResponseRecord(
            id=answer.id,
            tenant=tenant,
            created_s=answer.created_s,
            expires_s=None if ttl_s is None else time.time() + ttl_s,
            body=body,
            items=turn.items,
            previous_id=asked.previous_response_id,
            conversation=asked.conversation,
            background=asked.background,
            request=request,
        )

    async def _tell_end(self, turn: Turn, sink: Sink, final: JSON) -> None:
        turn.answer.tell_end(final)
        if turn.gone:
            return
        await sink.write(turn.answer.take())


def _facts(asked: Asked, items: tuple[JSON, ...]) -> Facts:
    """What rules may ask of a request."""
    engine = asked.engine_body
    messages = messages_of(asked.instructions, items)
    return Facts(
        prompt_chars=sum(map(len, texts_of(messages))),
        tools=bool(engine.get("tools") or asked.server_tools) and asked.choice != "none",
        reasoning_effort=engine.get("reasoning_effort"),
        metadata=asked.echo.get("metadata") or {},
    )
