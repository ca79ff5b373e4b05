"""uvicorn as a part of this process, which has its own signals, logs and start and stop order."""

import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class EmbeddedServer(uvicorn.Server):
    """Serves on sockets that it is given. `bounds` are uvicorn's own settings."""

    def __init__(self, app: ASGIApp, protocol: type[HttpToolsProtocol], **bounds: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                loop="none",
                lifespan="off",
                proxy_headers=False,
                access_log=False,
                log_config=None,
                server_header=False,
                **bounds,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals mean drain first (`serve.door`)."""
        yield
