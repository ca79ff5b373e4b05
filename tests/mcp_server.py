"""A real MCP server, of the protocol's own SDK: over standard input and output, or on a port."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from mcp.server.mcpserver import Image, MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("desk")
READS = ToolAnnotations(read_only_hint=True)
calls: list[str] = []


@server.tool(annotations=READS)
def add(a: int, b: int = 1) -> str:
    """Adds two numbers."""
    calls.append("add")
    return f"the sum is {a + b}"


@server.tool()
def fail(why: str = "no reason") -> str:
    """Fails."""
    raise ValueError(why)


@server.tool()
async def slow(seconds: float, mark: str = "") -> str:
    """Takes its time; leaves a mark where it is ended before that."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if mark:
            Path(mark).write_text("cancelled")  # noqa: ASYNC240 - a few bytes, once
        raise
    return "done"


@server.tool()
def big(size: int) -> str:
    """Says much."""
    return "x" * size


@server.tool()
def die() -> str:
    """Ends the whole server."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool(name="get.variable", annotations=READS)
def get_variable(name: str = "") -> str:
    """What an environment variable is."""
    return os.environ.get(name, "unset")


@server.tool(structured_output=False)
def picture() -> Image:
    """Draws."""
    return Image(data=b"\x89PNG", format="png")


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
