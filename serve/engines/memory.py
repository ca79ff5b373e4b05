"""Amounts of memory by pool, and what one engine needs of each in each of its conditions. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GIB: Final = 2**30

Amounts = Mapping[str, int]
"""Bytes by pool: `host`, and `gpu0`, `gpu1` … for the devices. A pool that is not named has 0."""

HOST: Final = "host"
NOTHING: Final[Amounts] = {}
REMEDY: Final = (
    "lower cpu_kv_gib, gpu_memory_fraction or context_tokens of a model, load fewer at startup, or "
    "raise the site's memory"
)
"""What to do where a site's models do not fit."""


def gpu(index: int) -> str:
    """The pool of this device."""
    return f"gpu{index}"


def plus(a: Amounts, b: Amounts) -> Amounts:
    """The sum of both."""
    return {pool: a.get(pool, 0) + b.get(pool, 0) for pool in (*a, *b)}


def minus(a: Amounts, b: Amounts) -> Amounts:
    """What is left of the first; below zero where the second is more."""
    return {pool: a.get(pool, 0) - b.get(pool, 0) for pool in (*a, *b)}


def peak(a: Amounts, b: Amounts) -> Amounts:
    """The larger of both in each pool: what a change from one to the other may take."""
    return {pool: max(a.get(pool, 0), b.get(pool, 0)) for pool in (*a, *b)}


def short_of(wanted: Amounts, free: Amounts) -> tuple[str, ...]:
    """The pools in which there is less than is wanted."""
    return tuple(pool for pool, amount in wanted.items() if amount > max(0, free.get(pool, 0)))


def in_words(amounts: Amounts) -> str:
    """`3.2 GiB of host memory and 70.0 GiB of gpu0`; what is nothing is left out."""
    parts = [
        f"{amount / GIB:.1f} GiB of {'host memory' if pool == HOST else pool}"
        for pool, amount in sorted(amounts.items(), key=lambda item: (item[0] != HOST, item[0]))
        if amount > 0
    ]
    return " and ".join(parts) or "nothing"


@dataclass(frozen=True, slots=True)
class Need:
    """What an engine takes while it can answer, and while it sleeps (None: it cannot sleep).

    `sleep_level` is vLLM's: at 1 the machine keeps the weights, at 2 they are read again.
    """

    awake: Amounts
    asleep: Amounts | None = None
    sleep_level: int = 1

    @property
    def turning(self) -> Amounts:
        """What going to sleep, or waking, may take: both copies of the weights."""
        return self.awake if self.asleep is None else peak(self.awake, self.asleep)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What an engine is taken to need until it has been measured.

    `record_key` is where its figures are kept (None: it is not measured), `kv_bytes` what of the
    estimate is a cache on a CPU, `on_devices` whether a driver has to be asked too.
    """

    estimate: Need
    record_key: str | None = None
    kv_bytes: int = 0
    on_devices: bool = False
