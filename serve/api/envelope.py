"""What every response carries: a request id and the time it took to begin.

Outermost, so that refusals, unknown addresses and our own failures carry them too. The addresses
that generate are answered from here, past the framework's own layers, which would cost them a
third of their time.
"""

import os
import time
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID: Final = "inhouse.request_id"
RECEIVED_S: Final = "inhouse.received_s"
ANTHROPIC_PATH: Final = "/v1/messages"


def is_anthropic(path: str) -> bool:
    """Whether who asks there reads Anthropic's answers."""
    return path.startswith(ANTHROPIC_PATH) and path[len(ANTHROPIC_PATH) :][:1] in ("", "/")


class Envelope:
    """Puts `x-request-id` and `openai-processing-ms` on each response's head.

    Anthropic's clients read the id as `request-id`.

    `direct`: applications by path, for POST; `sockets`: for WebSockets; everything else is
    `app`'s.
    """

    def __init__(
        self, app: ASGIApp, direct: Mapping[str, ASGIApp], sockets: Mapping[str, ASGIApp]
    ) -> None:
        self._app = app
        self._direct = direct
        self._sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            app = self._sockets.get(scope.get("path", ""), self._app)
            await app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = "req_" + os.urandom(16).hex()
        received_s = scope[RECEIVED_S] = time.monotonic()

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                elapsed_ms = round((time.monotonic() - received_s) * 1000)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"openai-processing-ms", b"%d" % elapsed_ms),
                ]
                if is_anthropic(scope["path"]):
                    message["headers"].append((b"request-id", request_id.encode()))
            await send(message)

        app = self._app
        if scope["method"] == "POST":
            app = self._direct.get(scope["path"], app)
        await app(scope, receive, send_marked)
