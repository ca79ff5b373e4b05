"""A server that answers at known times, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paced_stub(ttft_s: float, gap_s: float) -> Iterator[str]:
    """Where its API is."""
    times = (f"--ttft-s={ttft_s}", f"--gap-s={gap_s}")
    command = [sys.executable, "-m", "benchmarks.load.stub", *times]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub:
        assert stub.stdout is not None
        yield f"http://127.0.0.1:{stub.stdout.readline().strip()}/v1"
        stub.terminate()
