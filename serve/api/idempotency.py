"""`Idempotency-Key`: a POST that is sent again is answered with what came of it the first time.

As draft-ietf-httpapi-idempotency-key-header has it, and Stripe. In front of every address, and in
nobody's way who does not send the header. Bodies are fingerprinted as they go by: nothing waits
for an upload, and nothing of it is buffered.
"""

import logging
from collections import deque
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.admission.authenticate import Authenticator
from serve.api.envelope import ADMIN_PATH, Once
from serve.api.errors import Guard
from serve.api.fingerprint import Fingerprint
from serve.core.errors import Conflict, InvalidRequest, KeyReused, StorageUnavailable
from serve.settings.idempotency import Idempotency
from serve.state.idempotency import Claim, Result

log = logging.getLogger("inhouse.api")

HEADER: Final = b"idempotency-key"
KEY_MAX_CHARS: Final = 255
_END_BYTES: Final = 1 << 20
"""Of an answer that is not kept what is looked at to tell how it ended."""
_BOUNDARIES_BYTES: Final = 1 << 16
"""By how much the boundaries of a form may make the same request longer."""
REPLAYED: Final = (b"idempotent-replayed", b"true")
_ENDS: Final = (
    b"data: [DONE]",
    b'"type":"response.completed"',
    b'"type":"response.incomplete"',
    b'"type":"message_stop"',
)
"""What the last event of a stream has in it that came to its end."""


class Keys(Protocol):
    """See `serve.state.idempotency.IdempotencyKeys`."""

    settings: Idempotency

    async def claim(self, tenant: str, key: str) -> Claim | Result: ...
    async def finish(self, claim: Claim, result: Result) -> None: ...
    async def release(self, claim: Claim) -> None: ...


def once(keys: Keys, authenticator: Authenticator) -> Once:
    """Puts before an application what runs a request once, where the request asks for it."""

    def before(app: ASGIApp, scope: Scope) -> ASGIApp:
        if scope["method"] != "POST" or all(name != HEADER for name, _ in scope["headers"]):
            return app
        return Guard(RunOnce(app, keys, authenticator))

    return before


class RunOnce:
    """An application, each of whose keyed requests is run once."""

    def __init__(self, app: ASGIApp, keys: Keys, authenticator: Authenticator) -> None:
        self._app = app
        self._keys = keys
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key_of(scope)
        principal = self._authenticator.authenticate(scope["headers"])
        known = await self._keys.claim(principal.tenant, key)
        fingerprint = Fingerprint(scope, principal.grant)
        if isinstance(known, Result):
            await _check(known, fingerprint, receive)
            await _replay(known, send)
            return
        # What an operator is answered may hold a new key, which is kept nowhere.
        secret = scope["path"].startswith(ADMIN_PATH)
        room = 0 if secret else int(self._keys.settings.result_mib * 2**20)
        run = _Run(self._keys, known, fingerprint, send, room)

        async def seen() -> Message:
            message = await receive()
            fingerprint.feed(message)
            return message

        try:
            await self._app(scope, seen, run.send)
        finally:
            if not run.finished:
                await run.release()


class _Run:
    """The first run of a keyed request: keeps its answer before the last of it is sent."""

    def __init__(
        self, keys: Keys, claim: Claim, fingerprint: Fingerprint, send: Send, room_bytes: int
    ) -> None:
        self._keys = keys
        self._claim = claim
        self._fingerprint = fingerprint
        self._send = send
        self._room_bytes = room_bytes
        self._start: Message = {}
        self._parts: deque[bytes] = deque()
        self._size_bytes = self._here_bytes = 0
        self.finished = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = {**message, "headers": list(message.get("headers", ()))}
        elif message["type"] == "http.response.body":
            self._take(message.get("body", b""))
            if not message.get("more_body", False) and self._is_result():
                await self._finish()
        await self._send(message)

    def _take(self, data: bytes) -> None:
        self._parts.append(data)
        self._size_bytes += len(data)
        self._here_bytes += len(data)
        if self._size_bytes > self._room_bytes:  # its end alone is looked at
            while self._here_bytes - len(self._parts[0]) >= _END_BYTES:
                self._here_bytes -= len(self._parts.popleft())

    def _is_result(self) -> bool:
        """Whether it is what the same request is to be answered with for ever.

        One that was refused did nothing, and one that failed may be tried again.
        """
        if not 200 <= self._start.get("status", 500) < 300 or not self._fingerprint.whole:
            return False
        kinds = (v for n, v in self._start["headers"] if n.lower() == b"content-type")
        if not next(kinds, b"").startswith(b"text/event-stream"):
            return True
        last = b"".join(self._parts).rstrip().rpartition(b"\n\n")[2]
        return any(end in last for end in _ENDS)

    async def _finish(self) -> None:
        kept = self._size_bytes <= self._room_bytes
        result = Result(
            digest=self._fingerprint.digest(),
            size_bytes=self._fingerprint.size_bytes,
            status=self._start["status"],
            headers=[(n.decode("latin-1"), v.decode("latin-1")) for n, v in self._start["headers"]],
            body=b"".join(self._parts) if kept else None,
        )
        self.finished = True
        try:
            await self._keys.finish(self._claim, result)
        except StorageUnavailable as error:
            # It is answered all the same; who asks again has it run again.
            log.warning("a result is not kept for its key: %s", error.message)

    async def release(self) -> None:
        """Nothing came of it that is kept."""
        self.finished = True
        try:
            await self._keys.release(self._claim)
        except StorageUnavailable as error:
            log.warning("a key is not free again yet: %s", error.message)


async def _check(known: Result, fingerprint: Fingerprint, receive: Receive) -> None:
    """Raises KeyReused where this request is another than that of the result."""
    while not fingerprint.whole and fingerprint.size_bytes <= known.size_bytes + _BOUNDARIES_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        fingerprint.feed(message)
    if not fingerprint.whole or fingerprint.digest() != known.digest:
        raise KeyReused(
            "This Idempotency-Key was sent with another request: another address, another body or "
            "an API key of other scopes. Use a new key for each request.",
            param="Idempotency-Key",
        )


async def _replay(known: Result, send: Send) -> None:
    if known.body is None:
        raise Conflict(
            "The request with this Idempotency-Key has been answered, and its answer is not kept: "
            "it was larger than idempotency.result_mib, or held a secret. Use a new key to run it "
            "again.",
            param="Idempotency-Key",
            code="idempotent_result_not_kept",
        )
    headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in known.headers]
    await send(
        {"type": "http.response.start", "status": known.status, "headers": [*headers, REPLAYED]}
    )
    await send({"type": "http.response.body", "body": known.body})


def _key_of(scope: Scope) -> str:
    values: list[bytes] = [value for name, value in scope["headers"] if name == HEADER]
    key = values[0].decode("latin-1")
    if len(values) > 1:
        raise _bad("there is more than one; send one")
    if not 0 < len(key) <= KEY_MAX_CHARS:
        raise _bad(f"it has {len(key)} characters; send 1 to {KEY_MAX_CHARS}")
    if not key.isascii() or not key.isprintable():
        raise _bad("it has other characters than printable ASCII; send a UUID, for example")
    return key


def _bad(why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid Idempotency-Key: {why}.", param="Idempotency-Key")
