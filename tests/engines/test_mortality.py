import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.engines.mortality import PARENT_VARIABLE, kill_session, session_members

ASK = "from serve.engines.mortality import die_with_parent; die_with_parent({}); print('alive')"


def run(code: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_child_of_the_expected_parent_goes_on() -> None:
    assert run(ASK.format("")).stdout == "alive\n"
    assert run(ASK.format(""), **{PARENT_VARIABLE: str(os.getpid())}).stdout == "alive\n"
    assert run(ASK.format(os.getpid())).stdout == "alive\n"


@pytest.mark.parametrize("named", [True, False])
def test_an_orphan_ends_at_once(named: bool) -> None:
    found = run(ASK.format(""), **{PARENT_VARIABLE: "1"}) if named else run(ASK.format(2**22))
    assert (found.returncode, found.stdout) == (1, "")


def test_the_variable_is_not_passed_on() -> None:
    code = ASK.format("") + f"; import os; print({PARENT_VARIABLE!r} in os.environ)"
    assert run(code, **{PARENT_VARIABLE: str(os.getpid())}).stdout == "alive\nFalse\n"


def test_the_kernel_kills_the_child_of_a_killed_parent() -> None:
    child = ASK.format("") + "; import sys, time; sys.stdout.flush(); time.sleep(60)"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', {child!r}], "
            "stderr=subprocess.DEVNULL).pid, flush=True)\nsys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "alive\n"
        parent.kill()
    deadline_s = time.monotonic() + 2
    while lives(pid) and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert not lives(pid)


def lives(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_session_is_found_and_killed_but_for_its_living_leader() -> None:
    leader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "if os.fork() == 0:\n    os.setpgid(0, 0)\n"
            # One write each: two processes share the pipe.
            "os.write(1, b'%d\\n' % os.getpid())\ntime.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with leader:
        try:
            assert leader.stdout is not None
            pids = sorted(int(leader.stdout.readline()) for _ in range(2))
            assert sorted(session_members(leader.pid)) == pids
            # A leader that lives has not been waited for: its number may be a stranger's by now.
            assert kill_session(leader.pid) == 0
            leader.send_signal(signal.SIGKILL)
            leader.wait()
            assert kill_session(leader.pid) == 1
        finally:
            leader.kill()
    deadline_s = time.monotonic() + 2
    while session_members(leader.pid) and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert session_members(leader.pid) == []


def test_a_zombie_is_no_member() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert session_members(child.pid) == []
    finally:
        child.wait()
