"""No engine outlives the process that started it, and nothing of a dead engine lives on.

Linux only (prctl(2), PR_SET_PDEATHSIG): the kernel kills a process when the *thread* that
started it ends, so engines are started from the main thread, where the event loop runs.
The setting survives execve but not fork: each process of an engine asks for itself.
"""

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PARENT_VARIABLE: Final = "INHOUSE_PARENT_PID"
"""Where the spawner writes its own process id for the engine to read."""


def die_with_parent(expected_parent: int | None = None) -> None:
    """Have the kernel SIGKILL this process when the thread that started it ends.

    A parent that ended before this call cannot be waited for any more: a process that finds
    another parent than `expected_parent` (by default the one the spawner named in the
    environment, if any) ends at once. A child forked by `multiprocessing` passes
    `multiprocessing.parent_process().pid`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    # Taken out, for it is not true of our own children, who inherit the environment.
    named = os.environ.pop(PARENT_VARIABLE, None)
    if expected_parent is None and named is not None:
        expected_parent = int(named)
    if expected_parent is not None and os.getppid() != expected_parent:
        os._exit(1)


def session_members(session_id: int) -> list[int]:
    """Process ids of a session's living members, read from /proc.

    A zombie counts while a thread of it still runs: it then still holds its memory.
    """
    members = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was listed
        # proc(5): the command may hold spaces and brackets, so fields are counted after the last
        # bracket: state, ppid, pgrp, session … num_threads is the 18th of them.
        fields = stat.rpartition(b")")[2].split()
        gone = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
        if int(fields[3]) == session_id and not gone:
            members.append(int(entry.name))
    return members


def kill_session(leader: int) -> int:
    """SIGKILL what a session still holds after its leader has ended; how many there were.

    Only call once the leader has been waited for: a process of its id is then a stranger that
    was given the same number, and its session none of ours.
    """
    members = session_members(leader)
    if leader in members:
        return 0
    for pid in members:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it was quicker
    return len(members)
