"""What shows from outside that an engine's core works: its processes, and its metrics page."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PULSE: Final = re.compile(
    rb"^vllm:(?:num_requests_running|num_requests_waiting|kv_cache_usage_perc|prompt_tokens_total"
    rb"|generation_tokens_total)\{[^\n]*\} (\S+)$",
    re.MULTILINE,
)
"""What vLLM's core reports with each of its steps; a prompt in chunks moves the cache's usage."""
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the kernel says of an engine's processes."""

    cpu_s: float | None
    """CPU time of those that compute; None where it cannot be read."""
    frozen: bool
    """One of them is stopped."""


def pulse_of(page: bytes) -> tuple[float, ...]:
    """The values that move with the core's steps, out of vLLM's metrics page."""
    return tuple(float(value) for value in PULSE.findall(page))


def vitals_of(leader: int, members: Iterable[int]) -> Vitals:
    """Read /proc. The leader is the HTTP server; where it has started others, they compute."""
    spent: dict[int, int] = {}
    frozen = False
    for pid in members:
        try:
            stat_line = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was listed
        # proc(5), counted after the command's last bracket: state … utime is the 12th.
        fields = stat_line.rpartition(b")")[2].split()
        frozen = frozen or fields[0] in (b"T", b"t")
        spent[pid] = int(fields[11]) + int(fields[12])
    ticks = [used for pid, used in spent.items() if pid != leader] or list(spent.values())
    return Vitals(sum(ticks) / _TICKS_PER_S if ticks else None, frozen)
