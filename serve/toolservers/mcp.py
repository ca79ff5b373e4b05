"""A tool server that speaks the Model Context Protocol, at an address or as a process of ours.

Its connection belongs to one task, which opens it and closes it. A list of tools may be asked for
again on a new connection; a call never is, for it may have been carried out.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, EmbeddedResource, Implementation, ResourceLink, TextContent
from mcp_types import Tool as McpTool

from serve import __version__
from serve.settings.toolservers import ToolServer
from serve.toolservers.reach import client_of, variables_of
from serve.toolservers.records import (
    INTERNAL,
    JSON,
    UNREACHABLE,
    Tool,
    ToolFailed,
    cut,
    protocol_error,
    tool_error,
)

log = logging.getLogger("inhouse.tools")
logging.getLogger("mcp").setLevel(logging.ERROR)

FRESH_S: Final = 30.0
"""How long a list of tools counts; then it is asked for again, which tells a lost server too."""
TOOLS_MAX: Final = 512
PAGES_MAX: Final = 32
CLOSE_MAX_S: Final = 8.0
"""A process that does not end is killed by then."""

_Answer = TypeVar("_Answer")


class McpServer:
    """One such server; `folder` is where what a process writes to its standard error is kept."""

    def __init__(self, settings: ToolServer, environ: Mapping[str, str], folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._variables = variables_of(
            settings, "environment", {name: name for name in settings.environment}, environ
        )
        self._http = client_of(settings, environ) if settings.url is not None else None
        self._link: _Link | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._linking = asyncio.Lock()
        self._listing = asyncio.Lock()
        self._tools: tuple[Tool, ...] = ()
        self._listed_s = 0.0

    async def tools(self) -> tuple[Tool, ...]:
        """See `Server`."""
        async with self._listing:
            if self._link is None or time.monotonic() - self._listed_s > FRESH_S:
                known = self._link is not None
                try:
                    self._tools = await self._list()
                except ToolFailed as failed:
                    if not known or failed.outcome != "unreachable":
                        raise
                    self._tools = await self._list()
                self._listed_s = time.monotonic()
            return self._tools

    async def call(self, tool: str, arguments: JSON) -> str:
        """See `Server`."""
        link = await self._linked()
        try:
            result = await self._over(link, link.client.call_tool(tool, arguments))
        except ToolFailed as failed:
            if failed.outcome != "unreachable":
                raise
            words = f"'{self._settings.name}' was lost during the call; it may have been made"
            raise protocol_error("unreachable", UNREACHABLE, words) from None
        text = text_of(result)
        data = text.encode()
        text = cut(data, self._settings.max_result_bytes, len(data))
        if result.is_error:
            raise tool_error(text or "the tool failed and does not say why")
        return text

    async def close(self) -> None:
        """See `Server`."""
        link, self._link = self._link, None
        if link is not None:
            self._let_go(link)
        if self._ending:
            await asyncio.wait(self._ending)
        if self._http is not None:
            await self._http.aclose()

    async def _list(self) -> tuple[Tool, ...]:
        link = await self._linked()
        found: list[Tool] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = await self._over(link, link.client.list_tools(cursor=cursor))
            found += map(_tool, page.tools)
            cursor = page.next_cursor
            if cursor is None or len(found) >= TOOLS_MAX:
                break
        return tuple(found[:TOOLS_MAX])

    async def _linked(self) -> "_Link":
        async with self._linking:
            if self._link is None or self._link.ended:
                link = _Link(self._connection())
                try:
                    await link.open()
                except Exception as error:
                    raise self._unreachable(error) from None
                finally:
                    if not link.is_open:
                        self._let_go(link)
                self._link = link
            return self._link

    async def _over(self, link: "_Link", asked: Coroutine[Any, Any, _Answer]) -> _Answer:
        """What is asked over this connection; one that breaks is given up, for a new one."""
        try:
            return await link.run(asked)
        except MCPError as error:
            if error.code != UNREACHABLE:
                raise protocol_error("failed", error.code, error.message[:2000]) from None
            failure: Exception = error
        except (OSError, EOFError, ExceptionGroup) as error:
            failure = error
        except Exception as error:
            log.warning(
                "a tool server sent what is no answer",
                extra={"server": self._settings.name, "error": repr(error)[:500]},
            )
            words = f"'{self._settings.name}' sent what is no answer"
            raise protocol_error("failed", INTERNAL, words) from None
        if self._link is link:
            self._link = None
        self._let_go(link)
        raise self._unreachable(failure)

    def _let_go(self, link: "_Link") -> None:
        """End it without waiting for that."""
        task = asyncio.create_task(link.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _unreachable(self, error: Exception) -> ToolFailed:
        name = self._settings.name
        log.warning(
            "a tool server is not reached", extra={"server": name, "error": repr(error)[:500]}
        )
        return protocol_error("unreachable", UNREACHABLE, f"'{name}' cannot be reached")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Client]:
        settings = self._settings
        about = Implementation(name="inhouse", version=__version__)
        async with contextlib.AsyncExitStack() as stack:
            if settings.url is not None:
                transport = streamable_http_client(settings.url, http_client=self._http)
            else:
                self._folder.mkdir(parents=True, exist_ok=True)
                words = stack.enter_context((self._folder / f"{settings.name}.log").open("a"))
                transport = stdio_client(self._process(), errlog=words)
            client = Client(transport, client_info=about, cache=None)
            yield await stack.enter_async_context(client)

    def _process(self) -> StdioServerParameters:
        command, *arguments = self._settings.command
        return StdioServerParameters(
            command=command, args=arguments, env=self._variables, cwd=self._settings.folder
        )


class _Link:
    """One connection, and the task that it belongs to."""

    def __init__(self, connection: contextlib.AbstractAsyncContextManager[Client]) -> None:
        self._connection = connection
        self._opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        # Nobody may be left to hear what it failed with.
        self._opened.add_done_callback(lambda opened: opened.exception())
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._hold())

    @property
    def ended(self) -> bool:
        """Whether nothing can be asked over it any more."""
        return self._task.done()

    @property
    def is_open(self) -> bool:
        """Whether it has been opened, though it may have ended since."""
        return self._opened.done() and self._opened.exception() is None

    @property
    def client(self) -> Client:
        """Of a connection that has been opened."""
        return self._opened.result()

    async def open(self) -> None:
        """Return once it is; raises what it failed with."""
        await asyncio.shield(self._opened)

    async def run(self, asked: Coroutine[Any, Any, _Answer]) -> _Answer:
        """What is asked, or an error once the connection has ended under it."""
        asking = asyncio.ensure_future(asked)
        try:
            await asyncio.wait({asking, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise EOFError("the connection has ended")
            return asking.result()
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking})

    async def close(self) -> None:
        """End it, by force where it does not end by itself."""
        if not self._opened.done():
            self._task.cancel()
        self._over.set()
        _, late = await asyncio.wait({self._task}, timeout=CLOSE_MAX_S)
        for task in late:
            task.cancel()

    async def _hold(self) -> None:
        try:
            async with self._connection as client:
                self._opened.set_result(client)
                await self._over.wait()
        except Exception as error:
            if not self._opened.done():
                self._opened.set_exception(error)
            else:
                log.info("a tool server's connection has ended", extra={"error": repr(error)[:500]})
        finally:
            if not self._opened.done():
                self._opened.set_exception(EOFError("it did not begin"))


def text_of(result: CallToolResult) -> str:
    """What a tool has given, as text; what is no text is named."""
    texts = [_text(part) for part in result.content]
    if not texts and result.structured_content is not None:
        return orjson.dumps(result.structured_content).decode()
    return "\n".join(texts)


def _text(part: Any) -> str:
    if isinstance(part, TextContent):
        return part.text
    if isinstance(part, ResourceLink):
        return f"[{part.name}: {part.uri}]"
    if isinstance(part, EmbeddedResource):
        text = getattr(part.resource, "text", None)
        return text if type(text) is str else f"[a file that is no text: {part.resource.uri}]"
    return f"[{part.type} of type {part.mime_type}, which is not passed on]"


def _tool(tool: McpTool) -> Tool:
    said = tool.annotations
    hints = None
    if said is not None:
        hints = said.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Tool(
        name=tool.name,
        description=tool.description,
        schema=dict(tool.input_schema),
        annotations=hints,
    )
