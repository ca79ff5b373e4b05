"""Turns over a pipeline that answers from a script, and stores in memory."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import orjson

from serve.admission.authenticate import Authenticator
from serve.admission.context import ContextGuard
from serve.admission.gate import Gate
from serve.core.call import Call, Principal, Sink
from serve.core.errors import ModelNotFound, RequestError
from serve.pipeline import Pipeline
from serve.respond.asked import Asked
from serve.respond.run import Turns
from serve.served import Served
from serve.stream.answer import Shape
from serve.stream.chunks import ChunkStream
from serve.toolservers.records import Terms, Tool, ToolCall, protocol_error
from tests.respond.memory import MemoryConversations, MemoryEnds, MemoryResponses

JSON = dict[str, Any]
WHO = Principal("key")
RESPONSE_HEX = "0123456789abcdef" * 2

ECHO: JSON = {
    "metadata": {}, "parallel_tool_calls": True, "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None}, "safety_identifier": None,
    "service_tier": "default", "temperature": 1.0, "text": {"format": {"type": "text"}},
    "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled",
}  # fmt: skip


def user(text: str, item_id: str = "msg_in") -> JSON:
    part = {"type": "input_text", "text": text}
    return {"id": item_id, "type": "message", "role": "user", "status": "completed",
            "content": [part]}  # fmt: skip


def asked(*items: JSON, **fields: Any) -> Asked:
    return Asked(
        model="m", items=items or (user("hello"),), engine_body={}, echo=dict(ECHO), **fields
    )


def chunk(finish: str | None = None, logprobs: JSON | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return orjson.dumps({"choices": [choice]})


def call_chunk(place: int, arguments: str, name: str | None = None) -> bytes:
    call: JSON = {"index": place, "function": {"arguments": arguments}}
    if name is not None:
        call |= {"id": f"call_{place}", "type": "function"}
        call["function"]["name"] = name
    return chunk(tool_calls=[call])


def usage_chunk(prompt: int = 5, completion: int = 7) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return orjson.dumps({"choices": [], "usage": usage})


def said(*texts: str) -> list[bytes]:
    """A whole answer of one message."""
    return [
        chunk(role="assistant", content=""),
        *(chunk(content=text) for text in texts),
        chunk("stop", content=""),
        usage_chunk(),
        b"[DONE]",
    ]


Step = bytes | RequestError | asyncio.Event
Script = Sequence[Step]


class ScriptedPipeline:
    """Answers each call with the next script, where there is one more, or the last again.

    An event in a script is waited for, an error raised.
    """

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.calls: list[Call] = []
        self.gate = Gate(100)
        self.keys = Authenticator(required=False)
        config = SimpleNamespace(task="generate", context_tokens=1000)
        self.served = cast(
            Served,
            SimpleNamespace(
                id="m-1", engine_model="m", model=SimpleNamespace(config=config),
                guard=ContextGuard(1000, None), headers=(),
                check_images=lambda *_: None,
            ),
        )  # fmt: skip

    def route(self, name: str, facts: Callable[[], Any], principal: Principal) -> Served:
        del principal
        facts()
        if name != "m":
            raise ModelNotFound(f"no {name}", param="model")
        return self.served

    def tier(self, asked: str | None, principal: Principal) -> str:
        del principal
        return asked or "default"

    async def stream(
        self, served: Served, call: Call, sink: Sink, chunker: Callable[[Shape], ChunkStream]
    ) -> None:
        self.calls.append(call)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        chunks = chunker(shape_of(call, served.id))
        for step in script:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, RequestError):
                raise step
            else:
                if frames := chunks.feed([step]):
                    assert chunks.tokens_seen
                    await sink.write(frames)
                if chunks.failure is not None:
                    raise chunks.failure
        assert chunks.finished


def shape_of(call: Call, model: str = "m-1") -> Shape:
    return Shape(
        "x", model, "fp", 1, 1, forced_tool=call.forced_tool, strict_tools=call.strict_tools
    )


class ScriptedTools:
    """Servers whose tools are functions of a test; what they raise is how their calls fail."""

    def __init__(self) -> None:
        self.servers: dict[str, dict[str, Callable[..., Awaitable[str]]]] = {}
        self.on: dict[str, Terms] = {}
        self.gone: set[str] = set()
        self.calls: list[ToolCall] = []
        self.not_made: list[ToolCall] = []

    def terms(self, tenant: str) -> Mapping[str, Terms]:
        del tenant
        return {label: self.on.get(label, Terms()) for label in self.servers}

    async def tools(self, label: str) -> tuple[Tool, ...]:
        if label in self.gone:
            raise protocol_error("unreachable", -32000, f"'{label}' cannot be reached")
        return tuple(
            Tool(name, f"does {name}", {"type": "object"}, {"readOnlyHint": name.startswith("get")})
            for name in self.servers[label]
        )

    async def call(self, call: ToolCall) -> str:
        self.calls.append(call)
        return await self.servers[call.server][call.tool](**call.arguments)

    def refused(self, call: ToolCall) -> None:
        self.not_made.append(call)


class Rig:
    """All of it together; `scripts` are what the engine says."""

    def __init__(self, *scripts: Script) -> None:
        self.pipeline = ScriptedPipeline(*scripts)
        self.responses = MemoryResponses()
        self.conversations = MemoryConversations()
        self.tools = ScriptedTools()
        self.turns = self.again()

    def again(self) -> Turns:
        """Turns of another process over what is kept."""
        pipeline = cast(Pipeline, self.pipeline)
        ends = MemoryEnds(self.responses, self.conversations)
        return Turns(pipeline, self.responses, self.conversations, ends, lambda _: 60.0, self.tools)


class Collected:
    """A sink that remembers, as a client would."""

    def __init__(self) -> None:
        self.data = b""

    @property
    def started(self) -> bool:
        return bool(self.data)

    produced = started

    async def write(self, frames: bytes) -> None:
        self.data += frames

    async def comment(self, frames: bytes) -> None:
        self.data += frames


def events_of(data: bytes) -> list[JSON]:
    parts = [part for part in data.split(b"\n\n") if part.startswith(b"event: ")]
    events = [orjson.loads(part.partition(b"\ndata: ")[2]) for part in parts]
    assert [f"event: {e['type']}".encode() for e in events] == [
        part.partition(b"\n")[0] for part in parts
    ]
    return events
