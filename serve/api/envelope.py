"""What every response carries: a request id and the time it took to begin.

Outermost, so that refusals, unknown addresses and our own failures carry them too. The addresses
that generate are answered from here, past the framework's own layers, which would cost them a
third of their time.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.core.call import STANDING, Standing
from serve.core.ids import new_request_id

REQUEST_ID: Final = "inhouse.request_id"
RECEIVED_S: Final = "inhouse.received_s"
ANTHROPIC_PATH: Final = "/v1/messages"
ADMIN_PATH: Final = "/admin/"

Once = Callable[[ASGIApp, Scope], ASGIApp]


def is_anthropic(path: str) -> bool:
    """Whether who asks there reads Anthropic's answers."""
    return path.startswith(ANTHROPIC_PATH) and path[len(ANTHROPIC_PATH) :][:1] in ("", "/")


def rate_limits(standing: Standing) -> Iterator[tuple[bytes, bytes]]:
    """`x-ratelimit-*` as OpenAI has them (guide to rate limits): only where limits exist."""
    for name, known in ((b"requests", standing.requests), (b"tokens", standing.tokens)):
        if known is not None:
            limit, left, reset_s = known
            yield b"x-ratelimit-limit-" + name, b"%d" % limit
            yield b"x-ratelimit-remaining-" + name, b"%d" % left
            yield b"x-ratelimit-reset-" + name, duration(reset_s).encode()


def duration(seconds: float) -> str:
    """`120ms`, `1.5s`, `6m0s`, `23h59m59s`: as Go writes them, which is how OpenAI does."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


class Envelope:
    """Puts `x-request-id` and `openai-processing-ms` on each response's head.

    Anthropic's clients read the id as `request-id`.

    `direct`: applications by path, for POST; `sockets`: for WebSockets; `admin`: for what lies
    below ADMIN_PATH. Everything else is `app`'s. `once` puts before one of them what runs a request
    that has an idempotency key once.
    """

    def __init__(
        self,
        app: ASGIApp,
        direct: Mapping[str, ASGIApp],
        sockets: Mapping[str, ASGIApp],
        admin: ASGIApp,
        once: Once,
    ) -> None:
        self._app = app
        self._direct = direct
        self._sockets = sockets
        self._admin = admin
        self._once = once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            app = self._sockets.get(scope.get("path", ""), self._app)
            await app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = new_request_id()
        received_s = scope[RECEIVED_S] = time.monotonic()
        standing: list[Standing] = []
        STANDING.set(standing)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                elapsed_ms = round((time.monotonic() - received_s) * 1000)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"openai-processing-ms", b"%d" % elapsed_ms),
                ]
                if standing:
                    message["headers"].extend(rate_limits(standing[0]))
                if is_anthropic(scope["path"]):
                    message["headers"].append((b"request-id", request_id.encode()))
            await send(message)

        path, app = scope["path"], self._app
        if path.startswith(ADMIN_PATH):
            app = self._admin
        elif scope["method"] == "POST":
            app = self._direct.get(path, app)
        await self._once(app, scope)(scope, receive, send_marked)
