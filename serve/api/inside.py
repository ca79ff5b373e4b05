"""Requests that this server makes of itself for a client, without a socket.

They take the way of all others, from the door on: the same checks, refusals, bounds and accounts.
"""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Mapping
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Scope

from serve.admission.authenticate import Authenticator
from serve.api.errors import body_of, internal, status_of
from serve.batch.ports import Answer
from serve.core.call import BACKGROUND, Principal
from serve.core.errors import Unauthenticated
from serve.core.ids import new_request_id

log = logging.getLogger("inhouse.api")


class Inside:
    """Answers requests as the application does. See `serve.batch.ports.Execute`.

    They count as background work: the pipeline sets those that clients wait for before them.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self.app: ASGIApp | None = None
        """The application, once it has been put together."""

    async def __call__(
        self, endpoint: str, body: Mapping[str, Any], principal: Principal
    ) -> Answer:
        data = orjson.dumps(body)
        try:
            key = self._authenticator.key_within(principal)
        except Unauthenticated as error:
            request_id = new_request_id()
            return Answer(status_of(error)[0], request_id, orjson.loads(body_of(error)))
        context = contextvars.copy_context()
        context.run(BACKGROUND.set, True)
        exchange = _Exchange(data)
        assert self.app is not None
        work = self.app(_scope(endpoint, data, key), exchange.receive, exchange.send)
        await asyncio.get_running_loop().create_task(_whole(work), context=context)
        return exchange.answer()


class _Exchange:
    """Both sides of one request."""

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    async def receive(self) -> Message:
        data, self._data = self._data, None
        if data is None:
            # The client never leaves: who does not want the answer any more cancels the task.
            await asyncio.Event().wait()
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = dict(message["headers"])
        else:
            self._body.append(message.get("body", b""))

    def answer(self) -> Answer:
        body, status = b"".join(self._body), self._status
        if not status:
            failed = internal()
            body, status = body_of(failed), status_of(failed)[0]
        retry_after = self._headers.get(b"retry-after", b"")
        return Answer(
            status=status,
            request_id=self._headers.get(b"x-request-id", b"").decode(),
            body=orjson.loads(body),
            retry_after_s=float(retry_after) if retry_after.isdigit() else None,
        )


async def _whole(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        # The framework raises what it has answered already; the answer is what counts.
        log.exception("a request of this server's own failed")


def _scope(path: str, data: bytes, key: bytes) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"authorization", b"Bearer " + key),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(data)),
        ],
        "client": None,
        "server": None,
        "state": {},
    }
