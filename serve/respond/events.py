"""One response as it comes to be: its object, and the events that tell of it.

It lives over all that is asked of engines for one response. What an engine that was lost had
begun is taken back (`rewind`), for nothing of it has been sent.
"""

import time
from typing import Any, Final

from serve.core.errors import RequestError
from serve.core.usage import Usage
from serve.respond.asked import Asked
from serve.respond.items import CustomCall, FunctionCall, Message, OpenItem, Reasoning, id_of
from serve.respond.offer import Offered
from serve.respond.serveritems import ApprovalRequest, ServerCall, show_list
from serve.respond.wire import end_of, error_of, frame

JSON = dict[str, Any]

CUT: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a response is incomplete, by the engine's finish reason."""


class Answer:
    """A response in the making. Frames gather until they are taken.

    `number` is the next event's; `opened`: the beginning has been told of, before a restart.
    """

    def __init__(
        self, asked: Asked, response_id: str, created_s: float, *, number: int = 0
    ) -> None:
        self.id = response_id
        self.created_s = created_s
        self.model = asked.model
        self.tier = "default"
        """The service tier that it is served in."""
        self.usage = Usage()
        self.reason = "stop"
        self.output: list[JSON] = []
        self.number = number
        self._opened = number > 0
        self._open: OpenItem | None = None
        self._frames: list[bytes] = []
        self._sealed = "reasoning.encrypted_content" in asked.include
        self._base = _base(asked, response_id, created_s)
        self.waiting: list[ServerCall] = []
        """Calls whose arguments are whole, and that this server has not made yet."""
        self._mark: tuple[int, int, list[bytes]] = (number, 0, [])

    # What has been made so far

    def take(self) -> bytes:
        """The frames since the last time."""
        frames, self._frames = self._frames, []
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def object(self, status: str, **fields: Any) -> JSON:
        """The response object as it is now; `fields` are those that its status decides."""
        return {
            **self._base,
            "model": self.model,
            "service_tier": self.tier,
            "status": status,
            "output": list(self.output),
            **fields,
        }

    @property
    def item(self) -> OpenItem | None:
        """The item that has begun and not ended."""
        return self._open

    def begin_call(self) -> None:
        """Another engine call of this response begins; what there is stays."""
        self._mark = (self.number, len(self.output), list(self._frames))

    @property
    def spoken(self) -> list[JSON]:
        """The items that have ended since the engine call began."""
        return self.output[self._mark[1] :]

    def rewind(self) -> None:
        """Take back what has come since the call began."""
        self.number, kept, frames = self._mark
        self._opened = self.number > 0
        del self.output[kept:]
        self._open = None
        self.waiting.clear()
        self._frames = list(frames)

    # The beginning

    def queue(self) -> None:
        """It waits for its turn, in the background."""
        self._tell_of("response.created", self.object("queued"))
        self._tell_of("response.queued", self.object("queued"))
        self._opened = True

    def start(self) -> None:
        """It is being worked on, after it has been queued."""
        self._tell_of("response.in_progress", self.object("in_progress"))

    def _begin(self) -> None:
        if not self._opened:
            self._opened = True
            now = self.object("in_progress")
            self._tell_of("response.created", now)
            self._tell_of("response.in_progress", now)

    # Output

    def say(self, text: str, logprobs: list[JSON]) -> None:
        """More of a message; it begins where none is open."""
        if type(self._open) is not Message:
            self.close()
            self._begin()
            self._open = Message(self._emit, len(self.output), self._next_id("msg"))
        self._open.add(text, logprobs)

    def think(self, text: str) -> None:
        """More reasoning; it begins where none is open."""
        if type(self._open) is not Reasoning:
            self.close()
            self._begin()
            place = len(self.output)
            self._open = Reasoning(self._emit, place, self._next_id("rs"), sealed=self._sealed)
        self._open.add(text)

    def call(
        self, call_id: str, name: str, namespace: str | None, *, custom: bool
    ) -> FunctionCall | CustomCall:
        """Begin a call of a tool."""
        self.close()
        self._begin()
        kind, prefix = (CustomCall, "ctc") if custom else (FunctionCall, "fc")
        made = kind(self._emit, len(self.output), self._next_id(prefix), call_id, name, namespace)
        self._open = made
        return made

    def close(self, status: str = "completed") -> None:
        """End the open item, if there is one."""
        if self._open is not None:
            item, self._open = self._open, None
            self.output.append(item.finish(status))
            if type(item) is ServerCall and status == "completed":
                self.waiting.append(item)

    # What this server calls itself

    def show_tools(self, listed: JSON) -> None:
        """Show what a server offers; `listed` is the item, without its id."""
        self.close()
        self._begin()
        item = {"id": self._next_id("mcpl"), **listed}
        show_list(self._emit, len(self.output), item)
        self.output.append(item)

    def call_server(self, tool: Offered) -> ServerCall | ApprovalRequest:
        """Begin a call of a server's tool, or the question whether it may be made."""
        self.close()
        self._begin()
        place, label, name = len(self.output), tool.label, tool.tool.name
        made: ServerCall | ApprovalRequest
        if tool.approval:
            made = ApprovalRequest(self._emit, place, self._next_id("mcpr"), label, name)
        else:
            made = ServerCall(self._emit, place, self._next_id("mcp"), label, name, None)
        self._open = made
        return made

    def call_approved(self, request: JSON) -> None:
        """A call that the client has agreed to; it waits to be made."""
        self.close()
        self._begin()
        place, label, name = len(self.output), request["server_label"], request["name"]
        made = ServerCall(self._emit, place, self._next_id("mcp"), label, name, request["id"])
        made.add(request["arguments"])
        self._open = made
        self.close()

    def called(
        self, call: ServerCall, *, output: str | None = None, error: JSON | None = None
    ) -> None:
        """What came of a call that waited to be made."""
        self.waiting.remove(call)
        done = call.succeed(output or "") if error is None else call.fail(error)
        self.output[call.place] = done

    def abandon(self) -> None:
        """Nothing that waits to be made is made any more."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            self.output[call.place] = call.abandon()

    # The end

    def ended(self) -> JSON:
        """The final object of an answer whose engine has come to its end."""
        if not self.spoken:
            self.say("", [])
            self.close(item_status(self.reason))
        usage = self.usage.responses()
        cut = CUT.get(self.reason)
        if cut is not None:
            return self.object("incomplete", usage=usage, incomplete_details={"reason": cut})
        return self.object("completed", usage=usage, completed_at=int(time.time()))

    def unasked(self) -> JSON:
        """The final object where nothing was to be generated."""
        usage = self.usage.responses()
        return self.object("completed", usage=usage, completed_at=int(time.time()))

    def failed(self, error: RequestError) -> JSON:
        """The final object of an answer that went wrong; what there is of it stays in it."""
        self.close("incomplete")
        self.abandon()
        usage = self.usage.responses() if self.usage != Usage() else None
        return self.object("failed", usage=usage, error=error_of(error))

    def cancelled(self) -> JSON:
        """The final object of an answer that nobody wants any more."""
        self.close("incomplete")
        self.abandon()
        return self.object("cancelled")

    def tell_end(self, final: JSON) -> None:
        """The last event: a client that has read it has read all."""
        self._begin()
        self._emit(*end_of(final))

    # Frames

    def _next_id(self, prefix: str) -> str:
        return id_of(prefix, self.id, len(self.output))

    def _tell_of(self, kind: str, response: JSON) -> None:
        self._emit(kind, {"response": response})

    def _emit(self, kind: str, fields: JSON) -> None:
        event = {"type": kind, "sequence_number": self.number, **fields}
        self.number += 1
        self._frames.append(frame(event))


def item_status(reason: str) -> str:
    """Of the item in which an answer ended with this reason."""
    return "incomplete" if reason in CUT else "completed"


def _base(asked: Asked, response_id: str, created_s: float) -> JSON:
    conversation = None if asked.conversation is None else {"id": asked.conversation}
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(created_s),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "usage": None,
        **asked.echo,
        "background": asked.background,
        "conversation": conversation,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "previous_response_id": asked.previous_response_id,
        "store": asked.store,
    }
