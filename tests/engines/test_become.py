"""Both ends of a standby's line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.engines.become import LATE, Order, decode, early

CHILD = """\
import json, os, sys, tempfile
from serve.engines.become import await_order, become
tempfile.gettempdir()
become(await_order())
print(json.dumps([sys.argv[1:], os.getcwd(), tempfile.gettempdir(), dict(os.environ),
                  os.path.realpath("/proc/self/fd/0")]))
"""
ORDER = Order(("--a=1", "--b", "ü"), {"INHOUSE_ENGINE": "new", "VLLM_CACHE_ROOT": "/c"}, "/")


def test_an_order_survives_its_line() -> None:
    assert decode(ORDER.encode()) == ORDER
    assert ORDER.encode().count(b"\n") == 1


def test_what_is_read_late_does_not_make_a_kind() -> None:
    env = {"LD_PRELOAD": "x", "INHOUSE_ENGINE": "small", "TMPDIR": "/t"}
    assert early(env) == (("LD_PRELOAD", "x"),)
    assert not LATE & {"LD_PRELOAD", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME"}


def run(told: bytes, tmp_path: Path) -> "subprocess.CompletedProcess[bytes]":
    import socket

    ours, theirs = socket.socketpair()
    env = os.environ | {"TMPDIR": str(tmp_path), "VLLM_CONFIG_ROOT": "stale"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=theirs, stdout=subprocess.PIPE, env=env
    )
    theirs.close()
    with ours, child:
        ours.settimeout(20)
        assert ours.recv(1) == b"."
        ours.sendall(told)
        ours.shutdown(socket.SHUT_WR)
        out, _ = child.communicate(timeout=20)
    return subprocess.CompletedProcess([], child.returncode, out)


def test_a_standby_takes_on_all_that_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    env = {**ORDER.env, "TMPDIR": str(tmp_path / "new")}
    done = run(Order(ORDER.argv, env, str(tmp_path)).encode(), tmp_path)
    argv, cwd, temporary, seen, stdin = json.loads(done.stdout)
    assert (tuple(argv), cwd) == (ORDER.argv, str(tmp_path))
    assert temporary == str(tmp_path / "new")
    assert (seen["INHOUSE_ENGINE"], seen["VLLM_CACHE_ROOT"]) == ("new", "/c")
    assert "VLLM_CONFIG_ROOT" not in seen
    assert stdin == "/dev/null"


@pytest.mark.parametrize("told", [b"", b'{"argv": ['])
def test_a_line_that_closes_ends_it(told: bytes, tmp_path: Path) -> None:
    done = run(told, tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
