"""A clock for quotas: it shows about the time of day, and only goes on. Pure.

Whoever sets the machine's clock a day forward must not be given a new day's quota. So the time of
day is looked at once for each start of the machine, and counted on from there by the kernel's
monotonic clock, which is the same for all processes until the next start.
"""

from pathlib import Path
from typing import Final

from serve.core.clock import Clock
from serve.core.quota import Anchor

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
JUMPED_S: Final = 60.0
"""A difference to the machine's clock that an operator should hear of."""


class SteadyClock:
    """Seconds since 1970, as far as the anchor knows; at first that is now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.anchor = Anchor(clock.monotonic_s(), clock.wall_s())

    def hold(self, anchor: Anchor) -> None:
        """Count from this one from now on."""
        self.anchor = anchor

    def now_s(self) -> float:
        return self.anchor.wall_s + (self._clock.monotonic_s() - self.anchor.monotonic_s)

    @property
    def astray_s(self) -> float:
        """How far the machine's clock is ahead of this one."""
        return self._clock.wall_s() - self.now_s()


def boot_id() -> str:
    """What tells this start of the machine from others."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"
