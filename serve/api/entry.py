"""The way from the door to the pipeline that every generating endpoint takes.

Plain ASGI rather than FastAPI functions: dependency injection and response models would cost more
than the whole of the rest of the gateway (`benchmarks/gateway.py`).
"""

from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import orjson
from starlette.types import Receive, Scope, Send

from serve.admission.authenticate import Authenticator
from serve.admission.routes import Facts
from serve.api import query
from serve.api.body import Bounded, ClientGone, read_json
from serve.api.envelope import RECEIVED_S, REQUEST_ID
from serve.api.fields import Checked
from serve.api.presence import until_gone
from serve.core.call import Call, Principal
from serve.core.errors import InvalidRequest, RequestError
from serve.core.grant import Family
from serve.pipeline import Pipeline, outcome_of
from serve.served import Headers, Served
from serve.settings.site import Limits

JSON = dict[str, Any]
AskedT = TypeVar("AskedT", bound=Checked)

STREAMED: Final[JSON] = {
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
"""What engines are sent for an answer in parts. Whoever leaves in the middle has been counted."""

_JSON_HEADERS: Final = ((b"content-type", b"application/json"),)
_TOKEN_CHARS: Final = 4
"""What a token id counts for where a route asks how long a prompt is."""
_UNFIT: Final = {
    "embed": "generates text; it does not make embeddings",
    "generate": "makes embeddings; it does not generate text",
}


class Entry(Bounded, Generic[AskedT]):
    """One address. `endpoint` names it in metrics, `family` in a key's scopes, `path` is the
    engine's address, `task` what the model must be for, where that matters. `parameters` are those
    of the query that mean something.

    A subclass checks a request, says what the engine is sent, and answers.
    """

    endpoint: ClassVar[str]
    family: ClassVar[Family]
    path: ClassVar[str]
    task: ClassVar[Literal["embed", "generate"] | None] = None
    parameters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, pipeline: Pipeline, authenticator: Authenticator, limits: Limits) -> None:
        super().__init__(limits)
        self._pipeline = pipeline
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            principal = self._authenticator.authenticate(scope["headers"], self.family)
            query.only(scope, self.parameters)
            body = await read_json(scope, receive, self._body_max_bytes)
            asked = self._check(body)
            served = self._pipeline.route(asked.model, lambda: _facts(asked), principal)
            if self.task is not None and served.model.config.task != self.task:
                raise InvalidRequest(
                    f"The model {asked.model} {_UNFIT[self.task]}.",
                    param="model",
                    code="unsupported_model",
                )
            await self._admit(served, asked)
            call = self._call(scope, principal, served, asked)
        except ClientGone:
            self._pipeline.meter.refused(self.endpoint, "cancelled")
            return
        except RequestError as error:
            self._pipeline.meter.refused(self.endpoint, outcome_of(error))
            raise
        await until_gone(receive, self._run(served, call, asked, send))

    def _check(self, body: object) -> AskedT:
        raise TypeError(f"{type(self).__name__} takes nothing")

    async def _admit(self, served: Served, asked: AskedT) -> None:
        """Refuse what can be refused before an engine sees it."""

    def _body(self, served: Served, asked: AskedT) -> JSON:
        """What the engine is sent, but for the model's name."""
        del served
        return asked.engine_body

    def _run(
        self, served: Served, call: Call, asked: AskedT, send: Send
    ) -> Coroutine[Any, Any, None]:
        raise TypeError(f"{type(self).__name__} answers nothing")

    def _call(self, scope: Scope, principal: Principal, served: Served, asked: AskedT) -> Call:
        return Call(
            request_id=scope[REQUEST_ID],
            endpoint=self.endpoint,
            path=self.path,
            principal=principal,
            model_id=served.id,
            body={**self._body(served, asked), "model": served.engine_model},
            choices=asked.n,
            include_usage=asked.include_usage,
            received_s=scope[RECEIVED_S],
            max_output_tokens=asked.max_output_tokens,
            forced_tool=asked.forced_tool,
            strict_tools=asked.strict_tools,
            echo=asked.echo,
            asked=asked.model,
            tier=self._pipeline.tier(asked.tier, principal),
        )


async def send_json(send: Send, answer: JSON, headers: Headers) -> None:
    """An answer, whole."""
    await send_parts(send, [orjson.dumps(answer)], headers)


async def send_parts(send: Send, parts: Sequence[bytes], headers: Headers) -> None:
    """An answer whose JSON was made in parts."""
    size = (b"content-length", b"%d" % sum(map(len, parts)))
    head = (*_JSON_HEADERS, size, *headers)
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for part in parts[:-1]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": parts[-1]})


def _facts(asked: Checked) -> Facts:
    """What rules may ask of a request."""
    chars = sum(len(text) for texts in asked.prompts for text in texts)
    return Facts(
        prompt_chars=chars + _TOKEN_CHARS * sum(asked.token_prompts),
        tools=asked.has_tools,
        reasoning_effort=asked.engine_body.get("reasoning_effort"),
        metadata=asked.echo.get("metadata", {}),
    )
