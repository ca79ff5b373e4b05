"""Real processes: small Python programs that stand for an engine."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from serve.core.errors import EngineError, SetupError
from serve.engines.client import EngineClient
from serve.engines.launch import LaunchPlan
from serve.engines.mortality import PARENT_VARIABLE, session_members
from serve.engines.process import SystemEffects, SystemProcess, private_directory

Story = Callable[[SystemEffects], Coroutine[Any, Any, None]]

# Deaf to SIGTERM, with a child in its group and another in a group of its own.
FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for group in (False, True):
    if os.fork() == 0:
        if group:
            os.setpgid(0, 0)
        time.sleep(60)
open(sys.argv[1], 'w').close()
time.sleep(60)
"""


def plan(tmp_path: Path, code: str, *words: str, **environ: str) -> LaunchPlan:
    run_dir = private_directory(tmp_path / "run")
    argv = (sys.executable, "-S", "-c", code, *words)
    return LaunchPlan(argv, environ, run_dir / "small.sock", run_dir, 30.0)


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Runs a story on either event loop."""

    def run(story: Story) -> None:
        (uvloop.run if request.param == "uvloop" else asyncio.run)(story(SystemEffects()))

    return run


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.005)


Play = Callable[[Story], None]


def test_an_engine_sees_its_plan_and_nothing_else(play: Play, tmp_path: Path) -> None:
    code = (
        "import json, os, sys\n"
        "seen = {'env': dict(os.environ), 'cwd': os.getcwd(), 'stdin': sys.stdin.read(),\n"
        "        'leads': os.getsid(0) == os.getpgid(0) == os.getpid(),\n"
        "        'fds': [os.path.realpath(f'/proc/self/fd/{n}') for n in range(3, 64)]}\n"
        "print(json.dumps(seen))"
    )

    async def story(effects: SystemEffects) -> None:
        with socket.socket() as door, (tmp_path / "keys.yaml").open("w"):
            assert door.fileno() < 64
            process = await effects.spawn(plan(tmp_path, code, MINE="1"), "small")
            assert await process.exited() == 0
        (line,) = (await process.sweep()).tail
        seen = json.loads(line)
        seen["env"].pop("LC_CTYPE", None)  # Python's own (PEP 538)
        assert seen["env"] == {"MINE": "1", PARENT_VARIABLE: str(os.getpid())}
        assert seen["cwd"] == str(tmp_path / "run")
        assert seen["stdin"] == ""
        assert seen["leads"]
        assert not [path for path in seen["fds"] if "socket:" in path or "keys" in path]

    play(story)


def test_an_engine_that_writes_without_end_is_not_held_up(play: Play, tmp_path: Path) -> None:
    code = "for i in range(20000): print('x' * 100)\nprint('done')"

    async def story(effects: SystemEffects) -> None:
        process = await effects.spawn(plan(tmp_path, code), "small")
        assert await asyncio.wait_for(process.exited(), 10) == 0
        remains = await process.sweep()
        assert (remains.last_words, len(remains.tail)) == ("done", 50)

    play(story)


def test_a_killed_engine_takes_its_family_and_its_socket_along(play: Play, tmp_path: Path) -> None:
    async def story(effects: SystemEffects) -> None:
        stage = plan(tmp_path, FAMILY, str(tmp_path / "up"))
        stage.socket.write_text("stale")
        process = await effects.spawn(stage, "small")
        assert not stage.socket.exists()
        await until((tmp_path / "up").exists)
        stage.socket.write_text("its own")
        assert len(session_members(process.pid)) == 3
        os.kill(process.pid, signal.SIGKILL)  # the leader alone, as the kernel's OOM killer does
        assert await process.exited() == -9
        assert len(session_members(process.pid)) == 2
        remains = await process.sweep()
        assert remains.survivors == 0
        assert session_members(process.pid) == []
        assert not stage.socket.exists()

    play(story)


def test_terminate_asks_and_kill_does_not(play: Play, tmp_path: Path) -> None:
    async def story(effects: SystemEffects) -> None:
        process = await effects.spawn(plan(tmp_path, FAMILY, str(tmp_path / "up")), "small")
        await until((tmp_path / "up").exists)
        process.terminate()
        await asyncio.sleep(0.05)
        assert len(session_members(process.pid)) == 3, "deaf to SIGTERM"
        process.kill()
        assert await process.exited() == -9
        await process.sweep()
        assert session_members(process.pid) == []
        process.terminate()
        process.kill()

    play(story)


def test_a_sweep_leaves_no_descriptor_open(play: Play, tmp_path: Path) -> None:
    async def story(effects: SystemEffects) -> None:
        await run_one(effects)
        before = descriptors()
        for _ in range(3):
            await run_one(effects)
        assert descriptors() == before

    async def run_one(effects: SystemEffects) -> None:
        process = await effects.spawn(plan(tmp_path, "print('bye')"), "small")
        await process.exited()
        assert (await process.sweep()).last_words == "bye"

    play(story)


def test_a_program_that_is_not_there_is_an_error_and_leaves_nothing(
    play: Play, tmp_path: Path
) -> None:
    async def story(effects: SystemEffects) -> None:
        stage = plan(tmp_path, "")
        missing = LaunchPlan((str(tmp_path / "no"),), {}, stage.socket, stage.cwd, 1.0)
        before = descriptors()
        with pytest.raises(FileNotFoundError):
            await effects.spawn(missing, "small")
        assert descriptors() == before

    play(story)


def test_survivors_of_sigkill_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serve.engines.process.SWEEP_TIMEOUT_S", 0.05)
    monkeypatch.setattr("serve.engines.process.kill_session", lambda leader: 2)

    async def main() -> None:
        process: SystemProcess = await SystemEffects().spawn(plan(tmp_path, ""), "small")
        await process.exited()
        assert (await process.sweep()).survivors == 2

    asyncio.run(main())
    assert "survive SIGKILL" in caplog.text


def test_orders_that_an_engine_does_not_know_are_errors(tmp_path: Path) -> None:
    async def main() -> None:
        answers = {"POST /sleep?level=1&mode=wait": 200, "POST /wake_up": 404}
        asked: list[str] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(head.split(" HTTP")[0])
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % answers[asked[-1]])
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(answer, tmp_path / "s")
        client, effects = EngineClient(tmp_path / "s"), SystemEffects()
        await effects.doze(client, 1)
        with pytest.raises(EngineError, match="/wake_up was answered 404"):
            await effects.rouse(client, 1)
        assert asked == list(answers)
        await client.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_private_directory_is_made_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "a" / "run"
    assert stat.S_IMODE(private_directory(path).stat().st_mode) == 0o700
    path.chmod(0o755)
    assert stat.S_IMODE(private_directory(path).stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_private_directory_is_a_directory_of_ours(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    if kind == "file":
        path.write_text("")
    else:
        (tmp_path / "theirs").mkdir()
        path.symlink_to(tmp_path / "theirs")
    with pytest.raises(SetupError, match="set another var_dir"):
        private_directory(path)
