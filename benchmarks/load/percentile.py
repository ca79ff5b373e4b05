"""Percentiles that do not claim more than their sample supports.

A failed request counts as infinitely slow: leaving it out would make a server that drops its
slow requests look fast.
"""

import math
from collections.abc import Sequence
from typing import Final

SUPPORT: Final = ((0.999, 3688), (0.99, 368), (0.95, 72))
"""Samples a percentile needs (shared definition, BENCHMARKS); the median needs three."""


def percentile(samples: Sequence[float], q: float, failures: int = 0) -> float | None:
    """The q-quantile (0 < q < 1) by nearest rank, +inf among failures; None if unsupported."""
    if not 0 < q < 1:
        raise ValueError(f"quantile {q} is not between 0 and 1")
    count = len(samples) + failures
    if count < needed(q):
        return None
    rank = math.ceil(q * count) - 1
    return sorted(samples)[rank] if rank < len(samples) else math.inf


def needed(q: float) -> int:
    """How many samples the q-quantile needs."""
    return next((count for bound, count in SUPPORT if q >= bound), 3)
