"""No engine outlives the process that started it.

Linux only (prctl(2), PR_SET_PDEATHSIG): the kernel kills a process when the thread that started
it ends, so engines are started from the main thread. A process can die before its child has
asked for this; the child therefore looks once whether its parent is still the one it had.
"""

import ctypes
import os
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def die_with_parent(expected_parent: int | None = None) -> None:
    """Have the kernel SIGKILL this process when its parent ends.

    `expected_parent`: the parent's process id, where it is known; a process that finds another
    one has been orphaned already and ends at once.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    parent = os.getppid()
    if expected_parent is not None and parent != expected_parent:
        os._exit(1)


def session_members(session_id: int) -> list[int]:
    """Process ids of a session's living members, from /proc; zombies are left out."""
    members = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of entries, names are enough
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                # The command may hold spaces and brackets: fields start after the last one.
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != b"Z" and int(fields[3]) == session_id:
            members.append(int(name))
    return members
