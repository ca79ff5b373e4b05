"""`/v1/chat/completions` and `/v1/completions` at the door."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from starlette.types import Send

from serve.admission.authenticate import Authenticator
from serve.api.entry import JSON, STREAMED, AskedT, Entry, send_json
from serve.api.errors import body_of, internal
from serve.api.fields import Checked, check_chat, check_completion
from serve.api.fields.chat import AskedChat
from serve.api.keeping import Keeping
from serve.api.sink import StreamSink
from serve.core.call import Call
from serve.core.errors import RequestError
from serve.pipeline import Pipeline
from serve.served import Served
from serve.settings.site import Limits
from serve.state.completions import Completions

log = logging.getLogger("inhouse.api")


class _Generating(Entry[AskedT]):
    """`param` is the field that holds the prompt."""

    task = "generate"
    param: ClassVar[str]

    async def _admit(self, served: Served, asked: AskedT) -> None:
        served.check_images(asked.images, self.param)
        for texts in asked.prompts:
            await served.guard.check(texts, asked.max_output_tokens, self.param)
        for tokens in asked.token_prompts:
            served.guard.check_tokens(tokens, asked.max_output_tokens, self.param)

    def _body(self, served: Served, asked: AskedT) -> JSON:
        del served
        return {**asked.engine_body, **STREAMED} if asked.stream else asked.engine_body

    def _run(
        self, served: Served, call: Call, asked: AskedT, send: Send
    ) -> Coroutine[Any, Any, None]:
        return self._go(served, call, asked, send, None)

    async def _go(
        self, served: Served, call: Call, asked: AskedT, send: Send, keeping: Keeping | None
    ) -> None:
        if asked.stream:
            await self._stream(served, call, send, keeping)
        elif keeping is None:
            await send_json(send, await self._pipeline.answer(served, call), served.headers)
        else:
            answer = await keeping.answer(self._pipeline, served, call)
            await send_json(send, answer, served.headers)

    async def _stream(
        self, served: Served, call: Call, send: Send, keeping: Keeping | None
    ) -> None:
        sink = StreamSink(send, served.headers)
        try:
            if keeping is None:
                await self._pipeline.stream(served, call, sink)
            else:
                await keeping.stream(self._pipeline, served, call, sink)
        except RequestError as error:
            if not sink.started:
                raise
            await self._fail(sink, error)
        except Exception:
            if not sink.started:
                raise
            log.exception("a stream failed", extra={"request_id": call.request_id})
            await self._fail(sink, internal())
        await sink.end()

    async def _fail(self, sink: StreamSink, error: RequestError) -> None:
        # No `[DONE]` after this: a reader must not take what it has for the whole.
        await sink.write(b"data: " + body_of(error) + b"\n\n")


class ChatEndpoint(_Generating[AskedChat]):
    """`completions`: where answers are kept that a request wants `store`d; `erasures`: how often
    what a tenant keeps has been erased."""

    endpoint = "chat.completions"
    family = "chat"
    path = "/v1/chat/completions"
    param = "messages"

    def __init__(
        self,
        pipeline: Pipeline,
        authenticator: Authenticator,
        limits: Limits,
        completions: Completions,
        erasures: Callable[[str], int],
    ) -> None:
        super().__init__(pipeline, authenticator, limits)
        self._completions = completions
        self._erasures = erasures

    def _check(self, body: object) -> AskedChat:
        return check_chat(body, self._limits)

    def _run(
        self, served: Served, call: Call, asked: AskedChat, send: Send
    ) -> Coroutine[Any, Any, None]:
        keeping = None
        if asked.store:
            begun = self._erasures(call.principal.tenant)
            keeping = Keeping(self._completions, asked.messages, begun)
        return self._go(served, call, asked, send, keeping)


class CompletionsEndpoint(_Generating[Checked]):
    """The older one, of a prompt."""

    endpoint = "completions"
    family = "completions"
    path = "/v1/completions"
    param = "prompt"

    def _check(self, body: object) -> Checked:
        return check_completion(body, self._limits)
