"""`/v1/messages` and `/v1/messages/count_tokens`: Anthropic's API at the door.

A request becomes one of chat completions, and its answer a message: the models are the same, and
so is all that is done for a request on its way.
"""

import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from serve.admission.authenticate import Authenticator
from serve.admission.routes import Facts
from serve.api import query
from serve.api.body import ClientGone, read_json
from serve.api.envelope import RECEIVED_S, REQUEST_ID
from serve.api.errors import anthropic_body_of, internal
from serve.api.fields.anthropic import AskedMessage, check_count, check_message
from serve.api.generate import StreamSink
from serve.api.presence import until_gone
from serve.core.call import Call, Principal
from serve.core.errors import EngineError, InvalidRequest, RequestError
from serve.core.usage import Usage
from serve.pipeline import Pipeline, outcome_of
from serve.served import Served
from serve.settings.site import Limits
from serve.stream.answer import JSON, Shape
from serve.stream.message import MessageEvents, frame, message_of

log = logging.getLogger("inhouse.api")

_JSON_HEADERS: Final = ((b"content-type", b"application/json"),)
_FOR_TEMPLATE: Final = (
    "messages",
    "tools",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
)
"""What of a request decides its prompt, besides how hard the model is to think."""

Check = Callable[[object, Limits], AskedMessage]


class _Endpoint:
    """One address of the Messages API; `endpoint` names it in metrics."""

    endpoint: str
    path: str
    check: Check

    def __init__(self, pipeline: Pipeline, authenticator: Authenticator, limits: Limits) -> None:
        self._pipeline = pipeline
        self._authenticator = authenticator
        self.bound(limits)

    def bound(self, limits: Limits) -> None:
        """Check requests against these limits from now on."""
        self._limits = limits
        self._body_max_bytes = int(limits.body_mib * 2**20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            principal = self._authenticator.authenticate(scope["headers"], "messages")
            # Anthropic's clients say `?beta=true` where they use types that it calls so.
            query.only(scope, ("beta",))
            body = await read_json(scope, receive, self._body_max_bytes)
            asked = type(self).check(body, self._limits)
            checked = asked.checked
            served = self._pipeline.route(checked.model, lambda: _facts(asked), principal)
            if served.model.config.task != "generate":
                raise InvalidRequest(
                    f"The model {checked.model} makes embeddings; it does not generate text."
                )
            served.check_images(asked.checked.images, "messages")
            await self._admit(served, asked)
            call = self._call(scope, principal, served, asked)
        except ClientGone:
            self._pipeline.meter.refused(self.endpoint, "cancelled")
            return
        except RequestError as error:
            self._pipeline.meter.refused(self.endpoint, outcome_of(error))
            raise
        await until_gone(receive, self._run(served, call, asked, send))

    async def _admit(self, served: Served, asked: AskedMessage) -> None:
        """Refuse what can be refused before an engine sees it."""

    def _run(
        self, served: Served, call: Call, asked: AskedMessage, send: Send
    ) -> Coroutine[Any, Any, None]:
        raise TypeError(f"{type(self).__name__} runs nothing")

    def _body(self, served: Served, asked: AskedMessage) -> JSON:
        raise TypeError(f"{type(self).__name__} asks an engine nothing")

    def _call(
        self, scope: Scope, principal: Principal, served: Served, asked: AskedMessage
    ) -> Call:
        return Call(
            request_id=scope[REQUEST_ID],
            endpoint=self.endpoint,
            path=self.path,
            principal=principal,
            model_id=served.id,
            body={**self._body(served, asked), "model": served.engine_model},
            choices=1,
            include_usage=False,
            received_s=scope[RECEIVED_S],
            strict_tools=asked.checked.strict_tools,
            asked=asked.checked.model,
        )

    async def _whole(self, served: Served, answer: JSON, send: Send) -> None:
        data = orjson.dumps(answer)
        headers = (*_JSON_HEADERS, (b"content-length", b"%d" % len(data)), *served.headers)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})


class MessagesEndpoint(_Endpoint):
    """`POST /v1/messages`."""

    endpoint = "messages"
    path = "/v1/chat/completions"
    check = staticmethod(check_message)

    async def _admit(self, served: Served, asked: AskedMessage) -> None:
        for texts in asked.checked.prompts:
            await served.guard.check(texts, None, "messages")

    def _body(self, served: Served, asked: AskedMessage) -> JSON:
        body = dict(asked.checked.engine_body)
        # The engine stops where the context ends, and refuses a bound beyond the whole of it.
        body["max_completion_tokens"] = min(
            body["max_completion_tokens"], served.model.config.context_tokens
        )
        if served.model.config.reasoning_parser is None:
            # A model whose reasoning nobody can tell apart has no budget for it.
            body.pop("thinking_token_budget", None)
        if asked.checked.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        return body

    def _run(
        self, served: Served, call: Call, asked: AskedMessage, send: Send
    ) -> Coroutine[Any, Any, None]:
        work = self._stream if asked.checked.stream else self._answer
        return work(served, call, asked, send)

    async def _answer(self, served: Served, call: Call, asked: AskedMessage, send: Send) -> None:
        shape_message = partial(message_of, manner=asked.manner)
        await self._whole(served, await self._pipeline.answer(served, call, shape_message), send)

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


class CountTokensEndpoint(_Endpoint):
    """`POST /v1/messages/count_tokens`: the prompt's tokens, counted by the engine's template."""

    endpoint = "messages.count_tokens"
    path = "/tokenize"
    check = staticmethod(check_count)

    def _body(self, served: Served, asked: AskedMessage) -> JSON:
        engine = asked.checked.engine_body
        body: JSON = {name: engine[name] for name in _FOR_TEMPLATE if name in engine}
        if (effort := engine.get("reasoning_effort")) is not None:
            # As the engine's chat gives it to the template.
            settings = {"reasoning_effort": effort, "enable_thinking": True}
            body["chat_template_kwargs"] = settings | body.get("chat_template_kwargs", {})
        return body

    async def _run(self, served: Served, call: Call, asked: AskedMessage, send: Send) -> None:
        await self._whole(served, await self._pipeline.answer(served, call, _counted), send)


def _counted(engine: JSON, _: Shape) -> tuple[JSON, Usage]:
    count = engine.get("count")
    if type(count) is not int:
        raise EngineError("the model's process did not count the tokens")
    return {"input_tokens": count}, Usage()


def _facts(asked: AskedMessage) -> Facts:
    """What rules may ask of a request."""
    checked = asked.checked
    return Facts(
        prompt_chars=sum(len(text) for texts in checked.prompts for text in texts),
        tools=checked.has_tools,
        reasoning_effort=checked.engine_body.get("reasoning_effort"),
        metadata={},
    )
