"""Processor time and placement of processes, from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time spent so far by these processes, all threads, in seconds."""
    total = 0
    for pid in pids:
        fields = _stat(pid)
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def tree(root: int, without: str | None = None) -> tuple[int, ...]:
    """A process and its descendants, less those whose command line contains `without`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        if without is None or without not in command_line(pid):
            found.append(pid)
        queue.extend(children.get(pid, ()))
    return tuple(found)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def pin(pids: Iterable[int], cores: Iterable[int]) -> None:
    """Keep these processes, with all their threads, on these cores."""
    allowed = set(cores)
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), allowed)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command's name; state is the first (proc(5))."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()
