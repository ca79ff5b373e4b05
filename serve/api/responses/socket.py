"""The WebSocket mode of `/v1/responses`: one connection, one response after the other.

Each message is a `response.create` with the fields of the POST, and is answered by the events of
its stream, each a message (OpenAI's guide to the WebSocket mode).
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from serve.admission.authenticate import Authenticator
from serve.api.body import Bounded
from serve.api.errors import body_of, internal, status_of
from serve.api.fields import faults
from serve.api.fields.responses import check_response
from serve.core.errors import InvalidRequest, Overloaded, RequestError
from serve.core.ids import new_request_id
from serve.pipeline import outcome_of
from serve.respond.asked import Asked
from serve.respond.background import Background
from serve.respond.run import Turns
from serve.respond.session import Session
from serve.respond.turn import ENDPOINT, Turn
from serve.settings.site import Limits
from serve.toolservers.records import Terms

log = logging.getLogger("inhouse.api")

JSON = dict[str, Any]

CONNECTIONS_MAX: Final = 1000
LIFETIME_S: Final = 3600.0
"""A connection takes no turn that begins later than this after its opening."""
WAITING_MAX: Final = 16
"""Messages of one connection that wait for the turn before them; then it is read no further."""
CLOSE_POLICY: Final = 1008
CREATE: Final = "response.create"
_OWN: Final = ("type", "generate")
"""Of a message, and not of the POST."""


class Sockets(Bounded):
    """All such connections. An ASGI application for WebSockets; plain errors are answered so."""

    def __init__(
        self, turns: Turns, background: Background, authenticator: Authenticator, limits: Limits
    ) -> None:
        super().__init__(limits)
        self._turns = turns
        self._background = background
        self._authenticator = authenticator
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._authenticator.authenticate(scope["headers"], "responses")
        if self._open >= CONNECTIONS_MAX:
            raise Overloaded(f"{CONNECTIONS_MAX} connections are open already; try again later")
        await receive()  # the client's wish to connect
        await send({"type": "websocket.accept"})
        self._open += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self._open -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take turns until the client leaves, whose turn is then cancelled."""
        waiting: asyncio.Queue[str | bytes] = asyncio.Queue(WAITING_MAX)
        taking = asyncio.create_task(self._take_turns(scope, waiting, send))
        reading = asyncio.create_task(_read(receive, waiting))
        done, _ = await asyncio.wait({taking, reading}, return_when=asyncio.FIRST_COMPLETED)
        for task in (taking, reading):
            task.cancel()
        await asyncio.wait({taking, reading})
        if taking in done:
            taking.result()
            await send({"type": "websocket.close", "code": CLOSE_POLICY})

    async def _take_turns(
        self, scope: Scope, waiting: "asyncio.Queue[str | bytes]", send: Send
    ) -> None:
        session = Session()
        ends_s = time.monotonic() + LIFETIME_S
        while True:
            message = await waiting.get()
            if time.monotonic() > ends_s:
                words = f"A connection takes turns for {LIFETIME_S / 60:g} minutes; open another."
                code = "websocket_connection_limit_reached"
                await _tell(send, InvalidRequest(words, code=code))
                return
            await self._take_turn(scope, message, session, send)

    async def _take_turn(
        self, scope: Scope, message: str | bytes, session: Session, send: Send
    ) -> None:
        asked: Asked | None = None
        try:
            principal = self._authenticator.authenticate(scope["headers"], "responses")
            servers = self._turns.tools.terms(principal.tenant)
            asked, generate = self._asked(message, servers)
            before = session.before(asked)
            self._background.check_ended(principal.tenant, asked.previous_response_id)
            request_id = new_request_id()
            turn = await self._turns.prepare(asked, principal, request_id, before=before)
        except RequestError as error:
            self._turns.pipeline.meter.refused(ENDPOINT, outcome_of(error))
            if asked is not None:
                session.failed(asked)
            await _tell(send, error)
            return
        try:
            await self._answer(turn, session, send, generate=generate)
        finally:
            await self._turns.release(turn)

    async def _answer(self, turn: Turn, session: Session, send: Send, *, generate: bool) -> None:
        run = self._turns.run if generate else self._turns.warm
        try:
            session.ended(turn, await run(turn, SocketSink(send)))
        except RequestError as error:
            session.failed(turn.asked)
            await _tell(send, error)
        except Exception:
            log.exception("a response failed", extra={"request_id": turn.request_id})
            session.failed(turn.asked)
            await _tell(send, internal())

    def _asked(self, message: str | bytes, servers: Mapping[str, Terms]) -> tuple[Asked, bool]:
        """The request, and whether anything is to be generated for it."""
        try:
            event = orjson.loads(message)
        except orjson.JSONDecodeError as error:
            words = f"The message is not valid JSON: {error.msg}."
            raise InvalidRequest(words, code="invalid_json") from None
        if type(event) is not dict:
            raise faults.wrong_type("message", "an object", event)
        if event.get("type") != CREATE:
            raise faults.not_one_of("type", event.get("type"), (CREATE,))
        body = {name: value for name, value in event.items() if name not in _OWN}
        if body.get("background"):
            raise faults.unsupported("background", "a connection's turns are waited for.")
        generate = event.get("generate")
        if generate is not None and type(generate) is not bool:
            raise faults.wrong_type("generate", "a boolean", generate)
        asked = check_response(body | {"stream": True}, self._limits, servers)
        return asked, generate is not False


class SocketSink:
    """Sends each event of a stream as a message of its own."""

    __slots__ = ("_send", "produced", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = self.produced = False

    async def write(self, frames: bytes) -> None:
        self.started = self.produced = True
        for frame in frames.split(b"\n\n"):
            if frame:
                text = frame[frame.index(b"data: ") + 6 :].decode()
                await self._send({"type": "websocket.send", "text": text})

    async def comment(self, frames: bytes) -> None:
        """A connection has pings of its own."""


async def _read(receive: Receive, waiting: "asyncio.Queue[str | bytes]") -> None:
    """Queue what the client sends, until it leaves."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await waiting.put(message.get("text") or message.get("bytes") or b"")


async def _tell(send: Send, error: RequestError) -> None:
    status, _ = status_of(error)
    said = {"type": "error", "status": status, **orjson.loads(body_of(error))}
    await send({"type": "websocket.send", "text": orjson.dumps(said).decode()})
