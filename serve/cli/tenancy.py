"""Where commands about tenants and keys go: to the running server, or else into its database."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Protocol

from starlette.types import ASGIApp, Message

from serve.admission.steady import SteadyClock, boot_id
from serve.api.admin.tenancy import Tenancy
from serve.cli.client import ANSWER_TIMEOUT_S, NO_SERVER, AdminClient, refusal
from serve.core.audit import NO_TRAIL
from serve.core.clock import SystemClock
from serve.core.errors import RequestError
from serve.kept import trail_of
from serve.settings.load import load_site
from serve.settings.site import Site
from serve.state.directory import Directory
from serve.state.erasure import Eraser
from serve.state.storage import Storage

JSON = dict[str, Any]

LOOK: Final = "/admin/v1/tenants"
ERASE_TIMEOUT_S: Final = 3600.0
"""Files of a hundred gigabytes may have to go."""


class Tenants(Protocol):
    """Who answers requests below `/admin/v1/tenants` and `/admin/v1/keys`; raises RequestError."""

    def get(self, path: str) -> JSON: ...

    def post(
        self, path: str, body: JSON | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> JSON: ...

    def delete(self, path: str, timeout_s: float = ANSWER_TIMEOUT_S) -> JSON: ...


def tenants_of(site_file: Path, socket: Path | None) -> Tenants:
    """The server of a site, or of a socket; the site's database where no server runs."""
    if socket is not None:
        return AdminClient(socket)
    site = load_site(site_file)
    client = AdminClient(site.admin.socket)
    try:
        client.get(LOOK)
    except RequestError as error:
        if error.code == NO_SERVER:
            return Database(site)
        raise
    return client


class Database:
    """The same requests, answered in this process; servers on it know of a change in a second."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def get(self, path: str) -> JSON:
        return asyncio.run(self._answer("GET", path, None))

    def post(
        self, path: str, body: JSON | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> JSON:
        del timeout_s  # nobody else is waited for
        return asyncio.run(self._answer("POST", path, body))

    def delete(self, path: str, timeout_s: float = ANSWER_TIMEOUT_S) -> JSON:
        del timeout_s
        return asyncio.run(self._answer("DELETE", path, None))

    async def _answer(self, method: str, path: str, body: JSON | None) -> JSON:
        site = self._site
        storage = Storage(site.state, site.var_dir, site.files)
        await asyncio.to_thread(storage.database.open)
        async with AsyncExitStack() as opened:
            opened.push_async_callback(asyncio.to_thread, storage.database.close)
            steady = SteadyClock(SystemClock())
            steady.hold(await storage.quotas.anchor(boot_id(), steady.anchor))
            audit = trail_of(site, SystemClock()) if method != "GET" else None
            if audit is not None:
                await audit.open()
                opened.push_async_callback(audit.close)
            directory = Directory(storage.database, steady.now_s, lambda: site.limits.each_tenant)
            eraser = Eraser(directory, storage.retention)
            app = Tenancy(directory, eraser, audit or NO_TRAIL, "command").app
            return await _exchange(app, method, path, b"" if body is None else _encoded(body))


def _encoded(body: JSON) -> bytes:
    return json.dumps(body).encode()


async def _exchange(app: ASGIApp, method: str, path: str, body: bytes) -> JSON:
    """One request to an application, without a socket. Raises RequestError where it refuses."""
    bare, _, query = path.partition("?")
    status, answer = 500, b""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, answer
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            answer += message.get("body", b"")

    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": bare,
            "raw_path": bare.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"content-length", b"%d" % len(body))],
            "client": None,
            "server": None,
        },
        receive,
        send,
    )
    if status >= 400:
        raise refusal(answer)
    said: JSON = json.loads(answer)
    return said
