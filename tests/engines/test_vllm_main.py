"""The child entry: one line where it cannot start, and no process that outlives its parent."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serve.engines.hardware import probe
from serve.engines.launch import CLOSED, LaunchPlan, plan
from serve.engines.mortality import session_members
from serve.engines.profile import choose
from serve.engines.shape import shape_of
from serve.engines.vllm_main import FIRST, LATER, LATER_ON_CPU
from serve.settings.model import ServedModel

Models = Callable[..., ServedModel]

MODEL = Path(__file__).parents[2] / "models" / "smollm2-135m"
READY_TIMEOUT_S = 300
GONE_WITHIN_S = 5.0

FAMILY = """\
import multiprocessing, os, sys, time
import serve.engines.vllm_main as entry

def grandchild(pipe):
    pipe.send(os.getpid())
    time.sleep(60)

def child(pipe):
    context = multiprocessing.get_context("fork")
    context.Process(target=grandchild, args=(pipe,)).start()
    pipe.send(os.getpid())
    time.sleep(60)

entry.bind_forks()
ours, theirs = multiprocessing.Pipe()
multiprocessing.get_context("fork").Process(target=child, args=(theirs,)).start()
print(ours.recv(), ours.recv(), flush=True)
time.sleep(60)
"""
WITHOUT_VLLM = """\
import serve.engines.vllm_main as entry
entry._version = lambda name: None
entry.main()
"""
PARENT = """\
import json, subprocess, sys, time
launch = json.loads(sys.argv[1])
engine = subprocess.Popen(launch["argv"], env=launch["env"], cwd=launch["cwd"],
                          start_new_session=True, stdout=sys.stderr)
print(engine.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pids: list[int]) -> list[int]:
    """Those that are still there after GONE_WITHIN_S."""
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return left


@pytest.mark.parametrize("victim", ["parent", "child"])
def test_forks_of_forks_die_with_the_one_that_made_them(victim: str) -> None:
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        try:
            assert all(alive(pid) for pid in pids)
            if victim == "parent":
                parent.kill()
                expected = pids
            else:
                grandchild, child = sorted(pids, reverse=True)
                os.kill(child, signal.SIGKILL)
                expected = [grandchild]
            assert wait_gone(expected) == []
        finally:
            parent.kill()


def test_without_vllm_one_line_and_exit_code_3() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VLLM],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr == "vLLM is not installed here; run `make setup`\n"


def test_what_a_standby_imports_ahead_is_there() -> None:
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vLLM is not installed here")
    packages = Path(found.origin).parent.parent
    names = (*FIRST, *LATER, *LATER_ON_CPU)
    paths = [packages / name.replace(".", "/") for name in names]
    assert len(set(names)) == len(names)
    assert [
        path
        for path in paths
        if not path.with_suffix(".py").is_file() and not (path / "__init__.py").is_file()
    ] == []


@pytest.fixture
def launch(model: Models, tmp_path: Path) -> LaunchPlan:
    """A real engine that is up soon: eager, with the smallest cache."""
    if not (MODEL / "model.safetensors").is_file():
        pytest.skip("the starter model is not there; run `make models`")
    served = model(
        source={"path": MODEL}, cpu_kv_gib=1, dtype="float32", context_tokens=2048,
        engine_args={"enforce-eager": True},
    )  # fmt: skip
    hardware = replace(probe(), gpus=())
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    return plan(
        served, choose(hardware, served, shape_of(MODEL)), run_dir=run_dir,
        var_dir=tmp_path, environ=os.environ, ready_timeout_s=READY_TIMEOUT_S,
    )  # fmt: skip


@pytest.fixture
def family(launch: LaunchPlan, tmp_path: Path) -> Iterator["tuple[subprocess.Popen[str], int]"]:
    """A stand-in for the gateway, and the id of the engine that it has started and is ready."""
    words = {"argv": launch.argv, "env": dict(launch.env), "cwd": str(launch.cwd)}
    with (tmp_path / "log").open("w") as log:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, json.dumps(words)],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert parent.stdout is not None
    engine = int(parent.stdout.readline())
    try:
        wait_ready(launch, engine, tmp_path / "log")
        yield parent, engine
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        for pid in session_members(engine):
            os.kill(pid, signal.SIGKILL)


def wait_ready(launch: LaunchPlan, engine: int, log: Path) -> None:
    """vLLM listens once its core is up."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s and alive(engine):
        with socket.socket(socket.AF_UNIX) as probing:
            if probing.connect_ex(str(launch.socket)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


@pytest.mark.engine
@pytest.mark.parametrize("victim", ["gateway", "engine"])
def test_no_process_of_a_real_engine_outlives_a_sigkill(
    family: "tuple[subprocess.Popen[str], int]", victim: str, tmp_path: Path
) -> None:
    gateway, engine = family
    members = session_members(engine)
    assert engine in members
    assert len(members) >= 2  # the server, and the core at least
    made = [path for path in tmp_path.rglob("*.sock") if path.is_socket()]
    assert [oct(path.stat().st_mode & 0o777) for path in made] == ["0o700"]
    if victim == "gateway":
        gateway.kill()
        assert wait_gone(members) == []
    else:
        os.kill(engine, signal.SIGKILL)
        assert wait_gone([pid for pid in members if pid != engine]) == []


@pytest.mark.engine
def test_a_value_that_contradicts_the_model_is_one_line_and_exit_code_3(
    launch: LaunchPlan,
) -> None:
    argv = [*launch.argv, "--max-model-len=999999"]
    done = subprocess.run(
        argv, env={**launch.env, **CLOSED}, cwd=launch.cwd, capture_output=True, text=True,
        timeout=READY_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith("vLLM 0.")
    assert "999999" in last
    assert "Traceback" not in done.stderr
