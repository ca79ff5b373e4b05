"""`/v1/chat/completions` and `/v1/completions` at the door.

Plain ASGI rather than a FastAPI function: dependency injection and response models would cost
more than the whole of the rest of the gateway (`benchmarks/gateway.py`).
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from serve.admission.authenticate import Authenticator
from serve.admission.routes import Facts
from serve.api import query
from serve.api.body import ClientGone, read_json
from serve.api.envelope import RECEIVED_S, REQUEST_ID
from serve.api.errors import body_of, internal
from serve.api.fields import Checked
from serve.api.keeping import Keeping
from serve.api.presence import until_gone
from serve.core.call import Call, Principal
from serve.core.errors import InvalidRequest, RequestError
from serve.core.grant import Family
from serve.pipeline import Pipeline, outcome_of
from serve.served import Headers, Served
from serve.settings.site import Limits
from serve.state.completions import Completions

log = logging.getLogger("inhouse.api")

Check = Callable[[object, Limits], Checked]

_JSON_HEADERS: Final = ((b"content-type", b"application/json"),)
_STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class StreamSink:
    """Writes frames to the client; the head goes out with the first of them."""

    __slots__ = ("_headers", "_send", "produced", "started")

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self._headers = headers
        self.started = self.produced = False

    def write(self, frames: bytes) -> Coroutine[Any, Any, None]:
        self.produced = True
        return self._put(frames)

    def comment(self, frames: bytes) -> Coroutine[Any, Any, None]:
        return self._put(frames)

    async def _put(self, frames: bytes) -> None:
        if not self.started:
            self.started = True
            headers = (*_STREAM_HEADERS, *self._headers)
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": frames, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class GenerateEndpoint:
    """One generating endpoint. `endpoint` names it in metrics, `path` is the engine's address.

    `completions`: where answers are kept that a request wants `store`d.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        authenticator: Authenticator,
        limits: Limits,
        *,
        endpoint: str,
        path: str,
        check: Check,
        completions: Completions | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._authenticator = authenticator
        self._endpoint = endpoint
        self._path = path
        self._check = check
        self._completions = completions
        self._prompt_field = "messages" if endpoint == "chat.completions" else "prompt"
        self._family: Family = "chat" if endpoint == "chat.completions" else "completions"
        self.bound(limits)

    def bound(self, limits: Limits) -> None:
        """Check requests against these limits from now on."""
        self._limits = limits
        self._body_max_bytes = int(limits.body_mib * 2**20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            principal = self._authenticator.authenticate(scope["headers"], self._family)
            query.only(scope)
            body = await read_json(scope, receive, self._body_max_bytes)
            checked = self._check(body, self._limits)
            served = self._pipeline.route(checked.model, lambda: _facts(checked), principal)
            if served.model.config.task != "generate":
                raise InvalidRequest(
                    f"The model {checked.model} makes embeddings; it does not generate text.",
                    param="model",
                    code="unsupported_model",
                )
            await self._check_context(served, checked)
            call = self._call(scope, principal, served, checked)
        except ClientGone:
            self._pipeline.meter.refused(self._endpoint, "cancelled")
            return
        except RequestError as error:
            self._pipeline.meter.refused(self._endpoint, outcome_of(error))
            raise
        keeping = None
        if checked.store and self._completions is not None:
            keeping = Keeping(self._completions, body["messages"])
        work = self._stream if checked.stream else self._answer
        await until_gone(receive, work(served, call, send, keeping))

    async def _answer(
        self, served: Served, call: Call, send: Send, keeping: Keeping | None
    ) -> None:
        if keeping is None:
            answer = await self._pipeline.answer(served, call)
        else:
            answer = await keeping.answer(self._pipeline, served, call)
        data = orjson.dumps(answer)
        headers = (*_JSON_HEADERS, (b"content-length", b"%d" % len(data)), *served.headers)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

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

    async def _check_context(self, served: Served, checked: Checked) -> None:
        served.check_images(checked.images, self._prompt_field)
        for texts in checked.prompts:
            await served.guard.check(texts, checked.max_output_tokens, self._prompt_field)
        for tokens in checked.token_prompts:
            served.guard.check_tokens(tokens, checked.max_output_tokens, self._prompt_field)

    def _call(self, scope: Scope, principal: Principal, served: Served, checked: Checked) -> Call:
        body: dict[str, Any] = dict(checked.engine_body)
        body["model"] = served.engine_model
        if checked.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        return Call(
            request_id=scope[REQUEST_ID],
            endpoint=self._endpoint,
            path=self._path,
            principal=principal,
            model_id=served.id,
            body=body,
            choices=checked.n,
            include_usage=checked.include_usage,
            received_s=scope[RECEIVED_S],
            max_output_tokens=checked.max_output_tokens,
            forced_tool=checked.forced_tool,
            strict_tools=checked.strict_tools,
            echo=checked.echo,
            asked=checked.model,
            tier=self._pipeline.tier(checked.tier, principal),
        )


def _facts(checked: Checked) -> Facts:
    """What rules may ask of a request. A token id counts as four characters."""
    chars = sum(len(text) for texts in checked.prompts for text in texts)
    return Facts(
        prompt_chars=chars + 4 * sum(checked.token_prompts),
        tools=checked.has_tools,
        reasoning_effort=checked.engine_body.get("reasoning_effort"),
        metadata=checked.echo.get("metadata", {}),
    )
