"""What the addresses of the Responses API that ask an engine have in common."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from serve.admission.authenticate import Authenticator
from serve.api import query
from serve.api.body import Bounded, ClientGone, read_json
from serve.api.envelope import RECEIVED_S, REQUEST_ID
from serve.api.presence import until_gone
from serve.core.errors import RequestError
from serve.pipeline import outcome_of
from serve.respond.asked import Asked
from serve.respond.background import Background
from serve.respond.run import Turns
from serve.respond.turn import Turn
from serve.served import Headers
from serve.settings.site import Limits
from serve.toolservers.records import Terms

JSON = dict[str, Any]
Check = Callable[[object, Limits, Mapping[str, Terms]], Asked]

_JSON_HEADERS: Final = ((b"content-type", b"application/json"),)


class Door(Bounded):
    """One address; `endpoint` names it in metrics. Plain ASGI, see `serve.api.entry`."""

    endpoint: str
    check: Check
    counted = False
    """Nothing is generated, so that a prompt of any length will do."""

    def __init__(
        self, turns: Turns, background: Background, authenticator: Authenticator, limits: Limits
    ) -> None:
        super().__init__(limits)
        self._turns = turns
        self._background = background
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        meter = self._turns.pipeline.meter
        try:
            principal = self._authenticator.authenticate(scope["headers"], "responses")
            query.only(scope)
            body = await read_json(scope, receive, self._body_max_bytes)
            servers = self._turns.tools.terms(principal.tenant)
            asked = type(self).check(body, self._limits, servers)
            self._background.check_ended(principal.tenant, asked.previous_response_id)
            turn = await self._turns.prepare(
                asked, principal, scope[REQUEST_ID],
                received_s=scope[RECEIVED_S], counted=self.counted,
            )  # fmt: skip
        except ClientGone:
            meter.refused(self.endpoint, "cancelled")
            return
        except RequestError as error:
            meter.refused(self.endpoint, outcome_of(error))
            raise
        try:
            await until_gone(receive, self._run(turn, send))
        finally:
            if not turn.asked.background:
                await self._turns.release(turn)

    def _run(self, turn: Turn, send: Send) -> Coroutine[Any, Any, None]:
        raise TypeError(f"{type(self).__name__} runs nothing")


async def send_json(send: Send, answer: JSON, headers: Headers) -> None:
    """A whole answer."""
    data = orjson.dumps(answer)
    head = (*_JSON_HEADERS, (b"content-length", b"%d" % len(data)), *headers)
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": data})
