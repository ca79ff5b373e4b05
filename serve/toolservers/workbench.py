"""All tool servers of the site: who may use them, and each call within its bounds.

A call always comes to an end: a result, or a `ToolFailed` that the model can be told of. It is
counted and written down here, once, whichever it was.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from serve.core.audit import NO_TRAIL, Trail
from serve.settings.toolservers import ToolServer
from serve.toolservers import audit
from serve.toolservers.records import (
    INTERNAL,
    JSON,
    TIMED_OUT,
    UNREACHABLE,
    Observer,
    Server,
    Terms,
    Tool,
    ToolCall,
    ToolFailed,
    protocol_error,
)

log = logging.getLogger("inhouse.tools")

LIST_MAX_S: Final = 15.0
"""What a list of tools may take, the start of a process with it."""
SLOW_S: Final = 1.0
SPARED_S: Final = 15.0
"""How long a server that took longer than that to say nothing is not asked again: each response
that lists it would wait as long."""


class _Bench:
    """One server, and who may use it."""

    def __init__(self, settings: ToolServer, server: Server) -> None:
        self.settings = settings
        self.server = server
        self.slots = asyncio.Semaphore(settings.concurrent_calls)
        self.spared_until_s = 0.0
        self.terms = Terms(settings.approval, settings.max_calls, frozenset(settings.models))

    def admits(self, tenant: str) -> bool:
        return not self.settings.tenants or tenant in self.settings.tenants


class Workbench:
    """The servers that the site names now. `environ` has the secrets, `folder` what they log.

    Raises SettingsError where a secret or certificates that the site names are not there.
    """

    def __init__(
        self,
        servers: Sequence[ToolServer],
        environ: Mapping[str, str],
        folder: Path,
        observer: Observer,
        trail: Trail = NO_TRAIL,
    ) -> None:
        self._environ = environ
        self._folder = folder
        self._observer = observer
        self._trail = trail
        self._benches: dict[str, _Bench] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._benches = self.made(servers)

    def made(self, servers: Sequence[ToolServer]) -> dict[str, _Bench]:
        """Other servers, to be set up; those that stay as they are keep their connections.

        Nothing is started. Raises SettingsError.
        """
        made = {}
        for one in servers:
            there = self._benches.get(one.name)
            if there is not None and there.settings == one:
                made[one.name] = there
            else:
                made[one.name] = _Bench(one, server_of(one, self._environ, self._folder))
        return made

    def settle(self, made: dict[str, _Bench]) -> None:
        """From now on these; the others end what they have in hand, within its time."""
        before, self._benches = self._benches, made
        for name, bench in before.items():
            if made.get(name) is not bench:
                task = asyncio.create_task(_retire(bench))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def terms(self, tenant: str) -> Mapping[str, Terms]:
        """What this tenant may use, by label, in the site file's order."""
        return {name: one.terms for name, one in self._benches.items() if one.admits(tenant)}

    async def tools(self, label: str) -> tuple[Tool, ...]:
        """What a server offers now. Raises ToolFailed, also for one that is gone."""
        bench = self._bench(label)
        began_s = time.monotonic()
        if began_s < bench.spared_until_s:
            words = f"'{label}' did not list its tools a moment ago"
            raise protocol_error("unreachable", UNREACHABLE, words)
        try:
            async with asyncio.timeout(LIST_MAX_S):
                return await bench.server.tools()
        except (TimeoutError, ToolFailed) as error:
            now_s = time.monotonic()
            if now_s - began_s >= SLOW_S:
                bench.spared_until_s = now_s + SPARED_S
            if isinstance(error, ToolFailed):
                raise
            words = f"'{label}' did not list its tools in time"
            raise protocol_error("timeout", TIMED_OUT, words) from None

    async def call(self, call: ToolCall) -> str:
        """The result of one call. Raises ToolFailed."""
        began_s = time.monotonic()
        outcome, result = "cancelled", None
        try:
            result = await self._bounded(call)
            outcome = "ok"
            return result
        except ToolFailed as failed:
            outcome = failed.outcome
            raise
        finally:
            took_s = time.monotonic() - began_s
            self._observer.tool_called(call.server, call.tool, outcome, took_s)
            audit.write(self._trail, call, outcome, took_s, result)

    def refused(self, call: ToolCall) -> None:
        """Count and write down a call that a model asked for and that is not made."""
        self._observer.tool_called(call.server, call.tool, "refused", 0.0)
        audit.write(self._trail, call, "refused", 0.0, None)

    async def close(self) -> None:
        """End all connections and processes."""
        benches, self._benches = self._benches, {}
        for task in tuple(self._closing):
            task.cancel()
        await asyncio.gather(
            *(one.server.close() for one in benches.values()),
            *self._closing,
            return_exceptions=True,
        )

    def _bench(self, label: str) -> _Bench:
        bench = self._benches.get(label)
        if bench is None:
            raise protocol_error("unreachable", UNREACHABLE, f"'{label}' is not served any more")
        return bench

    async def _bounded(self, call: ToolCall) -> str:
        bench = self._bench(call.server)
        timeout_s = bench.settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s), bench.slots:
                arguments: JSON = dict(call.arguments)
                return await bench.server.call(call.tool, arguments)
        except TimeoutError:
            words = f"'{call.server}' gave no result in {timeout_s:g} s"
            raise protocol_error("timeout", TIMED_OUT, words) from None
        except ToolFailed:
            raise
        except Exception:
            extra = {"request_id": call.request_id, "server": call.server, "tool": call.tool}
            log.exception("a call of a tool failed", extra=extra)
            words = "this server failed on the call; its log says why"
            raise protocol_error("failed", INTERNAL, words) from None


async def _retire(bench: _Bench) -> None:
    """Close a server once nobody uses it, or its longest call must have ended."""
    try:
        async with asyncio.timeout(bench.settings.timeout_s):
            for _ in range(bench.settings.concurrent_calls):
                await bench.slots.acquire()
    except TimeoutError:
        pass
    finally:
        await bench.server.close()


def server_of(settings: ToolServer, environ: Mapping[str, str], folder: Path) -> Server:
    """The server of these settings. Raises SettingsError.

    What speaks to it is loaded only here: most sites have no such server.
    """
    if settings.kind == "http":
        from serve.toolservers.http import HttpServer  # noqa: PLC0415

        return HttpServer(settings, environ)
    from serve.toolservers.mcp import McpServer  # noqa: PLC0415

    return McpServer(settings, environ, folder)
