"""When requests come: offsets in seconds after the start, drawn beforehand.

They are fixed before the first is sent, so a slow target cannot slow the load down (open loop).
"""

import random
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final, Literal

from serve.core.errors import SettingsError

Process = Literal["poisson", "gamma", "constant"]


def offsets_s(
    process: Process, count: int, rate_per_s: float, rng: random.Random, variation: float = 1.0
) -> list[float]:
    """`count` offsets at this mean rate, the first at 0.

    `variation` is the coefficient of variation of the gaps, for `gamma` alone: 1 is Poisson, above
    it requests come in bursts, below it more evenly.
    """
    if rate_per_s <= 0 or count < 1 or variation <= 0:
        raise SettingsError(
            f"{count} requests at {rate_per_s:g}/s, variation {variation:g}: each must be above 0"
        )
    gap_s = _GAPS[process](1 / rate_per_s, variation, rng)
    return [0.0, *accumulate(next(gap_s) for _ in range(count - 1))]


def _poisson(mean_s: float, _: float, rng: random.Random) -> Iterator[float]:
    while True:
        yield rng.expovariate(1 / mean_s)


def _gamma(mean_s: float, variation: float, rng: random.Random) -> Iterator[float]:
    shape = 1 / variation**2
    while True:
        yield rng.gammavariate(shape, mean_s / shape)


def _constant(mean_s: float, _: float, __: random.Random) -> Iterator[float]:
    while True:
        yield mean_s


_GAPS: Final[dict[Process, Callable[[float, float, random.Random], Iterator[float]]]] = {
    "poisson": _poisson,
    "gamma": _gamma,
    "constant": _constant,
}
