"""How many users there are at each time of a Locust test. Pure; `locustfile` carries it out.

A shape sets users, not a rate of requests: each of them waits for its answer (a closed loop).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["constant", "ramp", "spike", "step", "trace"]

SPIKE_BASE: Final = 0.2
"""Share of the users that are there before and after a spike, which is the middle third."""
WINDOW_S: Final = 5.0
"""Over which a trace's arrivals are counted, in its time as replayed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`peak_users` at most, for `duration_s`."""

    kind: Kind
    peak_users: int
    duration_s: float
    step_s: float = 30.0
    """How long each number of users is kept, for `step`."""
    step_users: int = 1
    offsets_s: tuple[float, ...] = ()
    """When a trace's requests come, in order; its length is pressed into `duration_s`."""

    def users(self, at_s: float, attainment: float | None = None) -> int | None:
        """How many there are now; None at the end.

        `attainment`: of the step before, for `step`, which ends once it is below 99 %.
        """
        if at_s >= self.duration_s:
            return None
        match self.kind:
            case "constant":
                return self.peak_users
            case "ramp":
                return max(1, round(self.peak_users * at_s / self.duration_s))
            case "spike":
                inside = 1 / 3 <= at_s / self.duration_s < 2 / 3
                return self.peak_users if inside else max(1, round(self.peak_users * SPIKE_BASE))
            case "step":
                return self._stepped(at_s, attainment)
            case "trace":
                return self._traced(at_s)

    def step(self, at_s: float) -> int:
        """Which step this is, from 0."""
        return int(at_s // self.step_s)

    def _stepped(self, at_s: float, attainment: float | None) -> int | None:
        if attainment is not None and attainment < 0.99:
            return None
        return min(self.peak_users, self.step_users * (self.step(at_s) + 1))

    def _traced(self, at_s: float) -> int:
        scale = self.duration_s / (self.offsets_s[-1] or 1.0)
        offsets = [one * scale for one in self.offsets_s]
        counts = [
            _within(offsets, n * WINDOW_S) for n in range(int(self.duration_s / WINDOW_S) + 1)
        ]
        now = counts[int(at_s / WINDOW_S)]
        return max(1, round(self.peak_users * now / max(counts)))


def _within(offsets_s: Sequence[float], begin_s: float) -> int:
    return bisect_left(offsets_s, begin_s + WINDOW_S) - bisect_left(offsets_s, begin_s)
