"""What processes are found to hold."""

import os
import subprocess
import sys
import time

import pytest

from serve.engines.gauge import holdings, parse_compute_apps, parse_rollup
from serve.engines.memory import HOST

MIB = 2**20
ROLLUP = """\
55b438634000-7ffc9e0fc000 ---p 00000000 00:00 0                          [rollup]
Rss:              900000 kB
Pss:              800000 kB
Pss_Anon:         300000 kB
Pss_File:         499000 kB
Pss_Shmem:          1000 kB
"""


def test_files_in_memory_are_not_counted_for_they_can_go() -> None:
    assert parse_rollup(ROLLUP) == 301_000 * 1024
    old_kernel = "\n".join(line for line in ROLLUP.splitlines() if not line.startswith("Pss_"))
    assert parse_rollup(old_kernel) == 800_000 * 1024
    assert parse_rollup("") == 0


def test_a_sessions_processes_are_added_by_device() -> None:
    text = "GPU-b, 11, 1024\nGPU-a, 12, 10\nGPU-a, 99, 5000\nGPU-c, 11, 7\nGPU-b, 12, 1\n"
    found = parse_compute_apps(text, ["GPU-a", "GPU-b"], {11, 12})
    assert found == {"gpu1": 1025 * MIB, "gpu0": 10 * MIB}
    assert parse_compute_apps("\n", ["GPU-a"], {11}) == {}
    with pytest.raises(ValueError, match="N/A"):
        parse_compute_apps("GPU-a, 11, [N/A]", ["GPU-a"], {11})


def test_a_sessions_memory_is_what_it_has_written() -> None:
    code = "import sys, time; held = bytearray(b'x') * (64 * 2**20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began_s = time.monotonic()
        found = holdings(process.pid, devices=False)
        assert time.monotonic() - began_s < 1
        assert 64 * MIB <= found[HOST] < 100 * MIB
        process.communicate(b"\n")
    assert holdings(process.pid, devices=False) == {HOST: 0}
    assert holdings(os.getsid(0), devices=True)[HOST] > 0
