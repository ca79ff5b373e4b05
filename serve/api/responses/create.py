"""`POST /v1/responses`."""

from collections.abc import Coroutine
from typing import Any

from starlette.types import Send

from serve.api.fields.responses import check_response
from serve.api.responses.door import Door, send_json
from serve.api.sink import StreamSink
from serve.core.errors import RequestError
from serve.pipeline import outcome_of
from serve.respond.run import Silent
from serve.respond.turn import ENDPOINT, Turn


class ResponsesEndpoint(Door):
    """A new response: streamed, whole, or in the background."""

    endpoint = ENDPOINT
    check = staticmethod(check_response)

    def _run(self, turn: Turn, send: Send) -> Coroutine[Any, Any, None]:
        if turn.asked.background:
            return self._submit(turn, send)
        return self._stream(turn, send) if turn.asked.stream else self._whole(turn, send)

    async def _whole(self, turn: Turn, send: Send) -> None:
        final = await self._turns.run(turn, Silent())
        await send_json(send, final, turn.served.headers)

    async def _stream(self, turn: Turn, send: Send) -> None:
        sink = StreamSink(send, turn.served.headers)
        await self._turns.run(turn, sink)
        await sink.end()

    async def _submit(self, turn: Turn, send: Send) -> None:
        try:
            body, run = await self._background.submit(turn)
        except RequestError as error:
            self._turns.pipeline.meter.refused(self.endpoint, outcome_of(error), turn.served.id)
            raise
        if not turn.asked.stream:
            await send_json(send, body, turn.served.headers)
            return
        # Whoever leaves here leaves the response running, and may come back to it.
        sink = StreamSink(send, turn.served.headers)
        async for frames in run.follow(-1):
            await sink.write(frames)
        await sink.end()
