"""Time, as a port: durations are monotonic, wall time is only for records."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the lifecycle and the meters need of time."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary origin, never going back."""

    def wall_s(self) -> float:
        """Unix time in seconds, for records only."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()
