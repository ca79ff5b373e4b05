"""`/v1/messages` and `/v1/messages/count_tokens`: Anthropic's API at the door.

A request becomes one of chat completions, and its answer a message: the models are the same, and
so is all that is done for a request on its way.
"""

import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

from starlette.types import Send

from serve.api.entry import STREAMED, Entry, send_json
from serve.api.errors import anthropic_body_of, internal
from serve.api.fields.anthropic import AskedMessage, check_count, check_message
from serve.api.sink import StreamSink
from serve.core.call import Call
from serve.core.errors import EngineError, RequestError
from serve.core.usage import Usage
from serve.served import Served
from serve.stream.answer import JSON, Shape
from serve.stream.message import MessageEvents, frame, message_of

log = logging.getLogger("inhouse.api")

_FOR_TEMPLATE: Final = (
    "messages",
    "tools",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
)
"""What of a request decides its prompt, besides how hard the model is to think."""


class _Messages(Entry[AskedMessage]):
    """Anthropic's clients say `?beta=true` where they use types that it calls so."""

    family = "messages"
    task = "generate"
    parameters = ("beta",)

    async def _admit(self, served: Served, asked: AskedMessage) -> None:
        served.check_images(asked.images, "messages")


class MessagesEndpoint(_Messages):
    """`POST /v1/messages`."""

    endpoint = "messages"
    path = "/v1/chat/completions"

    def _check(self, body: object) -> AskedMessage:
        return check_message(body, self._limits)

    async def _admit(self, served: Served, asked: AskedMessage) -> None:
        await super()._admit(served, asked)
        for texts in asked.prompts:
            await served.guard.check(texts, None, "messages")

    def _body(self, served: Served, asked: AskedMessage) -> JSON:
        body = dict(asked.engine_body)
        # The engine stops where the context ends, and refuses a bound beyond the whole of it.
        body["max_completion_tokens"] = min(
            body["max_completion_tokens"], served.model.config.context_tokens
        )
        if served.model.config.reasoning_parser is None:
            # A model whose reasoning nobody can tell apart has no budget for it.
            body.pop("thinking_token_budget", None)
        return {**body, **STREAMED} if asked.stream else body

    def _run(
        self, served: Served, call: Call, asked: AskedMessage, send: Send
    ) -> Coroutine[Any, Any, None]:
        work = self._stream if asked.stream else self._answer
        return work(served, call, asked, send)

    async def _answer(self, served: Served, call: Call, asked: AskedMessage, send: Send) -> None:
        shape_message = partial(message_of, manner=asked.manner)
        answer = await self._pipeline.answer(served, call, shape_message)
        await send_json(send, answer, served.headers)

    async def _stream(self, served: Served, call: Call, asked: AskedMessage, send: Send) -> None:
        sink = StreamSink(send, served.headers)
        events = partial(MessageEvents, manner=asked.manner)
        try:
            await self._pipeline.stream(served, call, sink, events)
        except RequestError as error:
            if not sink.started:
                raise
            await sink.write(frame(anthropic_body_of(error, call.request_id)))
        except Exception:
            if not sink.started:
                raise
            log.exception("a stream failed", extra={"request_id": call.request_id})
            await sink.write(frame(anthropic_body_of(internal(), call.request_id)))
        await sink.end()


class CountTokensEndpoint(_Messages):
    """`POST /v1/messages/count_tokens`: the prompt's tokens, counted by the engine's template."""

    endpoint = "messages.count_tokens"
    path = "/tokenize"

    def _check(self, body: object) -> AskedMessage:
        return check_count(body, self._limits)

    def _body(self, served: Served, asked: AskedMessage) -> JSON:
        engine = asked.engine_body
        body: JSON = {name: engine[name] for name in _FOR_TEMPLATE if name in engine}
        if (effort := engine.get("reasoning_effort")) is not None:
            # As the engine's chat gives it to the template.
            settings = {"reasoning_effort": effort, "enable_thinking": True}
            body["chat_template_kwargs"] = settings | body.get("chat_template_kwargs", {})
        return body

    async def _run(self, served: Served, call: Call, asked: AskedMessage, send: Send) -> None:
        answer = await self._pipeline.answer(served, call, _counted)
        await send_json(send, answer, served.headers)


def _counted(engine: JSON, _: Shape) -> tuple[JSON, Usage]:
    count = engine.get("count")
    if type(count) is not int:
        raise EngineError("the model's process did not count the tokens")
    return {"input_tokens": count}, Usage()
