"""An operator's door whose orders are written to the audit log: before they are carried out, and
how they ended. One that cannot be written down is refused."""

import os
from typing import Any, Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.admin.bodies import BODY_MAX_BYTES
from serve.core.audit import Trail
from serve.core.call import Principal

JSON = dict[str, Any]

PRINCIPAL: Final = "inhouse.admin_principal"
"""Where the scope has who asks, where it is not the operator."""
_LOOKS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_RESULT: Final = ("id", "name", "tenant", "deleted", "objects", "outcome", "error")
"""What an answer may say of what was done: never a key's text."""


class Audited:
    """`via` says which door it is. Raises StorageUnavailable before anything has been done."""

    def __init__(self, app: ASGIApp, trail: Trail, via: str) -> None:
        self._app = app
        self._trail = trail
        self._via = via

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _LOOKS:
            await self._app(scope, receive, send)
            return
        principal: Principal | None = scope.get(PRINCIPAL)
        order = f"ord_{os.urandom(8).hex()}"
        asked = _Asked(receive)
        said = {
            "order": order,
            "via": self._via,
            "tenant": principal and principal.tenant,
            "key": "operator" if principal is None else principal.key,
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(errors="replace"),
        }
        self._trail.record("admin.order", said | {"body": await asked.body()})
        await self._trail.durable()
        answer = _Answer(send)
        try:
            await self._app(scope, asked.receive, answer.send)
        finally:
            ended = {"order": order, "path": scope["path"], "status": answer.status}
            self._trail.record("admin.ended", ended | answer.result())


class _Asked:
    """A request's body, read ahead as far as it may be long and then handed on."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read: list[Message] = []

    async def body(self) -> Any:
        """What was sent; its length where it is no JSON, or too long to be taken."""
        size = 0
        while size <= BODY_MAX_BYTES:
            message = await self._receive()
            self._read.append(message)
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        data = b"".join(one.get("body", b"") for one in self._read)
        try:
            return orjson.loads(data) if data and len(data) <= BODY_MAX_BYTES else {"bytes": size}
        except ValueError:
            return {"bytes": size}

    async def receive(self) -> Message:
        return self._read.pop(0) if self._read else await self._receive()


class _Answer:
    """Looks on while an answer is sent. `status` is 0 until one has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last = b""
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif body := message.get("body", b""):
            # An answer in parts, an apply's, says at its end what came of it.
            self._last = body[: 2 * BODY_MAX_BYTES]
        await self._send(message)

    def result(self) -> JSON:
        """What the answer says of what was done."""
        try:
            told = orjson.loads(self._last)
        except ValueError:
            return {}
        if not isinstance(told, dict):
            return {}
        listed = told.get("data")
        result = {name: told[name] for name in _RESULT if name in told}
        if isinstance(listed, list):
            result["ids"] = [one["id"] for one in listed if isinstance(one, dict) and "id" in one]
        return result
