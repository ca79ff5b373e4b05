"""The client of MCP, against a real server in a process of its own."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from serve.core.errors import SettingsError
from serve.settings.toolservers import ToolServer
from serve.toolservers.mcp import McpServer
from serve.toolservers.records import ToolFailed
from tests.conftest import free_port
from tests.toolservers.conftest import ROOT, McpProcess


def at(url: str, **fields: Any) -> McpServer:
    settings = ToolServer.model_validate({"name": "desk", "kind": "mcp", "url": url, **fields})
    return McpServer(settings, {}, Path("/nowhere"))


def run_here(folder: Path, **fields: Any) -> McpServer:
    command = [sys.executable, "-m", "tests.mcp_server", "stdio"]
    settings = ToolServer.model_validate_json(
        ToolServer(name="desk", kind="mcp", command=tuple(command), folder=ROOT).model_dump_json()
    ).model_copy(update=fields)
    return McpServer(settings, {"SHOWN": "yes", "HIDDEN": "no"}, folder)


async def failure(server: McpServer, tool: str, **arguments: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await server.call(tool, arguments)
    return caught.value


async def test_tools_and_calls(mcp_process: McpProcess) -> None:
    server = at(mcp_process.url, max_result_bytes=300)
    tools = {one.name: one for one in await server.tools()}
    assert tools["add"].schema["required"] == ["a"]
    assert (tools["add"].read_only, tools["fail"].read_only) == (True, False)
    assert tools["add"].description == "Adds two numbers."
    assert await server.call("add", {"a": 1, "b": 2}) == "the sum is 3"
    assert await server.call("picture", {}) == "[image of type image/png, which is not passed on]"
    long = await server.call("big", {"size": 1000})
    assert long == "x" * 300 + (
        "\n[cut here: the result is 1000 bytes, of which this server passes on 300]"
    )
    failed = await failure(server, "add", a="much")
    assert (failed.outcome, failed.error["type"]) == ("failed", "mcp_tool_execution_error")
    assert "valid integer" in failed.message
    await server.close()


async def test_calls_side_by_side(mcp_process: McpProcess) -> None:
    server = at(mcp_process.url)
    began_s = time.monotonic()
    assert await asyncio.gather(*(server.call("slow", {"seconds": 0.3}) for _ in range(8))) == (
        ["done"] * 8
    )
    assert time.monotonic() - began_s < 2
    await server.close()


async def test_a_cancelled_call_ends_on_the_server(mcp_process: McpProcess, tmp_path: Path) -> None:
    server = at(mcp_process.url)
    mark = tmp_path / "mark"
    call = asyncio.create_task(server.call("slow", {"seconds": 60, "mark": str(mark)}))
    await asyncio.sleep(0.3)
    began_s = time.monotonic()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert time.monotonic() - began_s < 1
    for _ in range(100):
        if mark.exists():
            break
        await asyncio.sleep(0.02)
    assert mark.read_text() == "cancelled"
    assert await server.call("add", {"a": 1}) == "the sum is 2"
    await server.close()


async def test_a_server_that_dies_and_comes_back(mcp_process: McpProcess) -> None:
    server = at(mcp_process.url)
    assert await server.tools()
    failed = await failure(server, "die")
    assert (failed.outcome, failed.error["code"]) == ("unreachable", -32000)
    assert "may have been made" in failed.message
    with pytest.raises(ToolFailed, match="cannot be reached"):
        await server.tools()
    await asyncio.to_thread(mcp_process.process.wait)
    await asyncio.to_thread(mcp_process.start)
    assert await server.call("add", {"a": 1}) == "the sum is 2"
    await server.close()


async def test_a_list_is_asked_for_again_on_a_new_connection(
    mcp_process: McpProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was begun anew meanwhile costs nobody a call."""
    monkeypatch.setattr("serve.toolservers.mcp.FRESH_S", 0.0)
    server = at(mcp_process.url)
    before = await server.tools()
    await asyncio.to_thread(mcp_process.stop)
    await asyncio.to_thread(mcp_process.start)
    assert await server.tools() == before
    await server.close()


async def test_a_process_of_ours(tmp_path: Path) -> None:
    server = run_here(tmp_path / "tools", environment=("SHOWN",))
    assert len(await server.tools()) == 7
    assert await server.call("get.variable", {"name": "SHOWN"}) == "yes"
    assert await server.call("get.variable", {"name": "HIDDEN"}) == "unset"
    failed = await failure(server, "die")
    assert failed.outcome == "unreachable"
    assert await server.call("add", {"a": 1}) == "the sum is 2"
    await server.close()
    assert (tmp_path / "tools" / "desk.log").exists()
    assert [task for task in asyncio.all_tasks() if not task.done()] == [asyncio.current_task()]


async def test_what_does_not_start(tmp_path: Path) -> None:
    server = run_here(tmp_path, command=("/no/such/program",))
    with pytest.raises(ToolFailed, match="'desk' cannot be reached"):
        await server.tools()
    await server.close()
    server = run_here(tmp_path, command=(sys.executable, "-c", "print('no protocol')"))
    with pytest.raises(ToolFailed, match="'desk' cannot be reached"):
        await server.tools()
    await server.close()
    server = at(f"http://127.0.0.1:{free_port()}/mcp")
    assert (await failure(server, "add")).outcome == "unreachable"
    await server.close()


async def test_one_that_never_answers_does_not_hold_who_waits(tmp_path: Path) -> None:
    server = run_here(tmp_path, command=(sys.executable, "-c", "import sys; sys.stdin.read()"))
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await server.tools()
    assert time.monotonic() - began_s < 1
    await server.close()
    assert [task for task in asyncio.all_tasks() if not task.done()] == [asyncio.current_task()]


def test_a_variable_that_is_not_set(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="environment of desk: the environment variable NONE"):
        run_here(tmp_path, environment=("NONE",))
