"""Chat completions that are kept: stored once they are whole, before their end is sent."""

from typing import Any

from serve.core.call import Call, Sink
from serve.pipeline import Pipeline
from serve.served import Served
from serve.state.completions import Completions
from serve.stream.answer import JSON, Shape
from serve.stream.assembly import AssembledChunks
from serve.stream.sse import DONE_FRAME


class Keeping:
    """Stores the answer to one request; `messages` are the request's own, as they came, `begun`
    the tenant's erasures when it came.

    A generation that fails or is cancelled is not stored. Raises StorageUnavailable where the
    answer cannot be stored, and Conflict where the tenant has been erased since: then it is not
    answered either.
    """

    def __init__(self, completions: Completions, messages: list[JSON], begun: int) -> None:
        self._completions = completions
        self._begun = begun
        self._messages = messages

    async def answer(self, pipeline: Pipeline, served: Served, call: Call) -> JSON:
        """As the pipeline's."""
        answer = await pipeline.answer(served, call)
        await self._put(call, answer)
        return answer

    async def stream(self, pipeline: Pipeline, served: Served, call: Call, sink: Sink) -> None:
        """As the pipeline's; `[DONE]` is sent once the answer is stored."""
        chunks: AssembledChunks | None = None

        def chunker(shape: Shape) -> AssembledChunks:
            nonlocal chunks
            chunks = AssembledChunks(shape)
            return chunks

        await pipeline.stream(served, call, _UntilDone(sink), chunker)
        assert chunks is not None
        await self._put(call, chunks.answer())
        await sink.write(DONE_FRAME)

    async def _put(self, call: Call, answer: JSON) -> None:
        messages = [_stored(one, f"{answer['id']}-{n}") for n, one in enumerate(self._messages)]
        await self._completions.add(
            call.principal.tenant, call.asked, answer, messages, self._begun
        )


class _UntilDone:
    """A sink that passes everything on but the stream's last frame."""

    __slots__ = ("_sink",)

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    @property
    def started(self) -> bool:
        return self._sink.started

    @property
    def produced(self) -> bool:
        return self._sink.produced

    async def write(self, frames: bytes) -> None:
        if rest := frames.removesuffix(DONE_FRAME):
            await self._sink.write(rest)

    async def comment(self, frames: bytes) -> None:
        await self._sink.comment(frames)


def _stored(message: JSON, message_id: str) -> dict[str, Any]:
    """A message of the request as the list of messages shows it."""
    shown: dict[str, Any] = {
        "refusal": None,
        "name": None,
        **{name: value for name, value in message.items() if value is not None},
        "id": message_id,
        "content": message.get("content"),
        "content_parts": None,
    }
    if isinstance(parts := shown["content"], list):
        shown["content"] = None
        shown["content_parts"] = [part for part in parts if part["type"] == "text"]
        refused = [part["refusal"] for part in parts if part["type"] == "refusal"]
        if refused:
            shown["refusal"] = "".join(refused)
    return shown
