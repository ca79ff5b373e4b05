"""All servers together: who may use which, bounds, counting, and a change while they serve."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from serve.core.call import Principal
from serve.core.errors import SettingsError
from serve.settings.toolservers import ToolServer
from serve.toolservers.records import Tool, ToolCall, ToolFailed, tool_error
from serve.toolservers.workbench import Workbench


class Scripted:
    """A server without one."""

    def __init__(self) -> None:
        self.closed = False
        self.running = self.most = 0
        self.go = asyncio.Event()

    async def tools(self) -> tuple[Tool, ...]:
        await self.go.wait()
        return (Tool("f", None, {}),)

    async def call(self, tool: str, arguments: dict[str, Any]) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if tool == "fail":
                raise tool_error("no")
            if tool == "break":
                raise KeyError(tool)
            if tool == "wait":
                await self.go.wait()
            return "done"
        finally:
            self.running -= 1

    async def close(self) -> None:
        self.closed = True


class Counted:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []

    def tool_called(self, server: str, tool: str, outcome: str, took_s: float) -> None:
        assert took_s >= 0
        self.calls.append((server, tool, outcome))


def settings(name: str = "desk", **fields: Any) -> ToolServer:
    url = "http://127.0.0.1:1/mcp"
    return ToolServer.model_validate({"name": name, "kind": "mcp", "url": url, **fields})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Scripted]:
    found: list[Scripted] = []

    def server_of(*_: object) -> Scripted:
        found.append(Scripted())
        return found[-1]

    monkeypatch.setattr("serve.toolservers.workbench.server_of", server_of)
    return found


def bench(*servers: ToolServer) -> tuple[Workbench, Counted]:
    counted = Counted()
    return Workbench(servers, {}, Path("/nowhere"), counted), counted


def call(tool: str, **arguments: Any) -> ToolCall:
    return ToolCall("req_1", Principal("ann", "lab"), "desk", tool, arguments)


async def test_who_may_use_what(made: list[Scripted]) -> None:
    tools, _ = bench(settings("a", tenants=["lab"]), settings("b", approval="always", max_calls=3))
    assert list(tools.terms("lab")) == ["a", "b"]
    assert list(tools.terms("other")) == ["b"]
    assert (tools.terms("x")["b"].approval, tools.terms("x")["b"].max_calls) == ("always", 3)


async def test_each_call_is_counted_and_written_down(
    made: list[Scripted], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "inhouse.audit")
    tools, counted = bench(settings(timeout_s=0.05))
    assert await tools.call(call("f", secret="s3cret")) == "done"
    for tool in ("fail", "break", "wait"):
        with pytest.raises(ToolFailed):
            await tools.call(call(tool))
    tools.refused(call("f"))
    waiting = asyncio.create_task(tools.call(call("wait")))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    outcomes = ["ok", "failed", "failed", "timeout", "refused", "cancelled"]
    assert [outcome for _, _, outcome in counted.calls] == outcomes
    lines = [one.__dict__ for one in caplog.records if one.name == "inhouse.audit"]
    assert [line["outcome"] for line in lines] == outcomes
    first = lines[0]
    assert (first["request_id"], first["tenant"], first["key"]) == ("req_1", "lab", "ann")
    assert (first["server"], first["tool"]) == ("desk", "f")
    assert len(first["arguments_sha256"]) == len(first["result_sha256"]) == 64
    assert "s3cret" not in str(first)
    assert lines[1]["result_sha256"] is None


async def test_bounds(made: list[Scripted]) -> None:
    tools, _ = bench(settings(concurrent_calls=2, timeout_s=1))
    waiting = [asyncio.create_task(tools.call(call("wait"))) for _ in range(5)]
    await asyncio.sleep(0.01)
    made[0].go.set()
    assert await asyncio.gather(*waiting) == ["done"] * 5
    assert made[0].most == 2


async def test_a_list_in_time(made: list[Scripted], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.toolservers.workbench.LIST_MAX_S", 0.05)
    monkeypatch.setattr("serve.toolservers.workbench.SLOW_S", 0.01)
    monkeypatch.setattr("serve.toolservers.workbench.SPARED_S", 0.05)
    tools, _ = bench(settings())
    with pytest.raises(ToolFailed, match="did not list its tools in time"):
        await tools.tools("desk")
    made[0].go.set()
    with pytest.raises(ToolFailed, match="a moment ago"):
        await tools.tools("desk")
    await asyncio.sleep(0.06)
    assert [one.name for one in await tools.tools("desk")] == ["f"]
    with pytest.raises(ToolFailed, match="not served any more"):
        await tools.tools("gone")


async def test_a_change_while_calls_run(made: list[Scripted]) -> None:
    kept = settings("kept")
    tools, _ = bench(settings(timeout_s=1), kept)
    waiting = asyncio.create_task(tools.call(call("wait")))
    await asyncio.sleep(0.01)
    tools.settle(tools.made([settings(timeout_s=2), kept]))
    assert len(made) == 3, "one that stays as it was is not made again"
    await asyncio.sleep(0.01)
    assert not made[0].closed
    made[0].go.set()
    assert await waiting == "done"
    await asyncio.sleep(0.01)
    assert [one.closed for one in made] == [True, False, False]
    await tools.close()
    assert all(one.closed for one in made)


def test_what_is_not_set_up_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the environment variable NONE"):
        bench(settings(secret_headers={"Authorization": "NONE"}))
