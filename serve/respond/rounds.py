"""The rounds of one turn: the model speaks, this server makes the calls that are its own, and the
model reads what came of them, until it has no more.

A turn ends with the calls that are the client's to make or to approve, if there are any; the
server's own of the same round are made first.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, Final

from serve.core.call import Sink
from serve.core.errors import (
    ContextLengthExceeded,
    Draining,
    InvalidRequest,
    Overloaded,
)
from serve.pipeline import Pipeline
from serve.respond.chunks import AnswerChunks
from serve.respond.context import fitting
from serve.respond.events import CUT
from serve.respond.offer import (
    Offer,
    Offered,
    check_servers,
    engine_name,
    is_shown,
    list_item,
    offered_of,
)
from serve.respond.outcome import arguments_of
from serve.respond.ports import ToolServers
from serve.respond.serveritems import ServerCall
from serve.respond.turn import Turn
from serve.toolservers.records import (
    BAD_ARGUMENTS,
    REFUSED,
    Tool,
    ToolCall,
    ToolFailed,
    protocol_error,
)

JSON = dict[str, Any]

CUTS_MAX: Final = 4
"""How often an engine may still find a prompt too long that has been cut to fit."""
LOGPROBS: Final = "message.output_text.logprobs"
AGAIN_AFTER_S: Final = 1.0
OVERLOADED_MAX_S: Final = 60.0
"""How long a turn that has made calls waits for room: they would be made twice if it began anew."""
_CLIENTS: Final = frozenset({"function_call", "custom_tool_call", "mcp_approval_request"})


class Rounds:
    """Generates what a turn says."""

    def __init__(self, pipeline: Pipeline, tools: ToolServers) -> None:
        self._pipeline = pipeline
        self._tools = tools

    async def generate(self, turn: Turn, sink: Sink) -> None:
        """All rounds of a turn. Raises RequestError."""
        answer = turn.answer
        offer = turn.offer = turn.offer or await self._open(turn)
        await self._approved(turn, offer, sink)
        while True:
            left = _tokens_left(turn)
            if left is not None and left < 1:
                answer.reason = "length"
                return
            if offer.made:
                await self._reread(turn)
            await self._round(turn, offer, left, sink)
            if answer.reason in CUT:
                answer.abandon()
            if not answer.waiting:
                return
            ended = any(item["type"] in _CLIENTS for item in answer.spoken)
            await self._make(turn, offer, sink)
            if ended:
                return

    async def offered(self, turn: Turn) -> JSON:
        """What a turn that is not run would say to the engine of tools. Raises RequestError."""
        offer = turn.offer = turn.offer or await self._open(turn)
        return offer.body(first=True)

    # What the model may call

    async def _open(self, turn: Turn) -> Offer:
        """Ask the servers what they have, and show it where it is not known yet."""
        asked = turn.asked.server_tools
        if not asked:
            return Offer(turn.asked)
        terms = self._tools.terms(turn.principal.tenant)
        check_servers(turn.asked, terms, turn.served)
        found = await asyncio.gather(*(self._listed(one["server_label"]) for one in asked))
        tools: dict[str, Offered] = {}
        for one, listed in zip(asked, found, strict=True):
            label = one["server_label"]
            error = listed.message if isinstance(listed, ToolFailed) else None
            its = [] if isinstance(listed, ToolFailed) else offered_of(one, listed, terms[label])
            tools |= {engine_name(label, each.tool.name): each for each in its}
            item = list_item(label, its, error)
            if not is_shown(item, turn.before):
                turn.answer.show_tools(item)
        calls_max = {one["server_label"]: terms[one["server_label"]].max_calls for one in asked}
        return Offer(turn.asked, tools, calls_max)

    async def _listed(self, label: str) -> tuple[Tool, ...] | ToolFailed:
        try:
            return await self._tools.tools(label)
        except ToolFailed as failed:
            return failed

    # What the model says

    async def _reread(self, turn: Turn) -> None:
        """The messages with what has been said and called since."""
        turn.messages, turn.dropped = await fitting(
            turn.asked, (*turn.before, *turn.answer.output), turn.served.guard,
            turn.served.guard.context_tokens, turn.dropped,
        )  # fmt: skip

    async def _round(self, turn: Turn, offer: Offer, left: int | None, sink: Sink) -> None:
        asked, answer = turn.asked, turn.answer
        chunker = partial(
            AnswerChunks,
            answer=answer,
            custom_tools=asked.custom_tools,
            namespaces=asked.namespaces,
            server_tools=offer.tools,
            logprobs=LOGPROBS in asked.include,
        )
        tools = offer.body(first=not offer.made)
        began_s = time.monotonic() if offer.made else turn.received_s
        answer.begin_call()
        own = _RoundSink(sink)
        try:
            for cut in range(CUTS_MAX + 1):
                call = turn.call(tools, left, began_s)
                try:
                    streaming = partial(self._pipeline.stream, turn.served, call, own, chunker)
                    await self._stream(streaming, patient=bool(offer.made))
                    return
                except ContextLengthExceeded:
                    # Only the engine knows what its template adds.
                    everything = (*turn.before, *answer.output)
                    if cut == CUTS_MAX or not asked.truncate or turn.dropped + 1 >= len(everything):
                        raise
                    turn.messages, turn.dropped = await fitting(
                        asked, everything, turn.served.guard,
                        turn.served.guard.context_tokens, turn.dropped + 2**cut,
                    )  # fmt: skip
        except BaseException:
            if not own.wrote:
                answer.rewind()
            raise

    async def _stream(self, streaming: Any, *, patient: bool) -> None:
        deadline_s = time.monotonic() + (OVERLOADED_MAX_S if patient else 0.0)
        while True:
            try:
                await streaming()
                return
            except Draining:
                raise
            except Overloaded:
                if time.monotonic() >= deadline_s:
                    raise
            await asyncio.sleep(AGAIN_AFTER_S)

    # What this server calls

    async def _approved(self, turn: Turn, offer: Offer, sink: Sink) -> None:
        """Make the calls that the client has agreed to in this turn."""
        answered = {item.get("approval_request_id") for item in turn.before
                    if item["type"] == "mcp_call"}  # fmt: skip
        requests = {item["id"]: item for item in turn.before
                    if item["type"] == "mcp_approval_request"}  # fmt: skip
        for item in turn.items:
            if item["type"] != "mcp_approval_response" or not item["approve"]:
                continue
            request = requests[item["approval_request_id"]]
            if request["id"] in answered:
                continue
            answered.add(request["id"])
            if offer.named(request["server_label"], request["name"]) is None:
                raise InvalidRequest(
                    f"The approved call {request['id'][:80]} is of a tool that is not offered: "
                    f"list the server '{request['server_label'][:80]}' in `tools` again.",
                    param="tools",
                )
            turn.answer.call_approved(request)
        if turn.answer.waiting:
            await self._make(turn, offer, sink)

    async def _make(self, turn: Turn, offer: Offer, sink: Sink) -> None:
        """Make the calls that wait, all at once, and tell of each as it ends."""
        answer = turn.answer
        making: Mapping[asyncio.Task[JSON], ServerCall] = {
            asyncio.create_task(self._call(turn, offer, one)): one for one in answer.waiting
        }
        waiting = set(making)
        try:
            await _tell(turn, sink)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=lambda one: making[one].place):
                    answer.called(making[task], **task.result())
                await _tell(turn, sink)
        finally:
            for task in waiting:
                task.cancel()
            if waiting:
                await asyncio.wait(waiting)

    def _call(self, turn: Turn, offer: Offer, made: ServerCall) -> Coroutine[Any, Any, JSON]:
        """One call, counted against its bounds now, whenever it is made."""
        bound = offer.used_up(made.label)
        offer.closed = offer.closed or bound is not None
        offer.made[made.label] += 1
        return self._outcome(turn, made, bound)

    async def _outcome(self, turn: Turn, made: ServerCall, bound: str | None) -> JSON:
        """Its `output`, or its `error`."""
        arguments = arguments_of(made.arguments)
        call = ToolCall(turn.request_id, turn.principal, made.label, made.name, arguments or {})
        if bound is not None:
            return self._not_made(call, REFUSED, bound)
        if arguments is None:
            return self._not_made(call, BAD_ARGUMENTS, "the arguments are no JSON object")
        try:
            return {"output": await self._tools.call(call)}
        except ToolFailed as failed:
            return {"error": failed.error}

    def _not_made(self, call: ToolCall, code: int, why: str) -> JSON:
        self._tools.refused(call)
        return {"error": protocol_error("refused", code, f"not called: {why}").error}


class _RoundSink:
    """The sink of one round: what earlier ones wrote is not this one's."""

    __slots__ = ("_sink", "wrote")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.wrote = False

    @property
    def started(self) -> bool:
        return self._sink.started

    @property
    def produced(self) -> bool:
        return self.wrote and self._sink.produced

    async def write(self, frames: bytes) -> None:
        self.wrote = True
        await self._sink.write(frames)

    async def comment(self, frames: bytes) -> None:
        await self._sink.comment(frames)


async def _tell(turn: Turn, sink: Sink) -> None:
    if frames := turn.answer.take():
        await sink.write(frames)


def _tokens_left(turn: Turn) -> int | None:
    bound = turn.asked.max_output_tokens
    return None if bound is None else bound - turn.answer.usage.completion
