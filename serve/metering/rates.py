"""Tokens per second and cache use of engines, from the counters they keep themselves.

vLLM's counters move with each step of its core, ours once a request has ended; so these tell what
a long answer is doing while it is being written.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

WINDOW_S: Final = 10.0
"""Rates are over at most this long."""
SPAN_MIN_S: Final = 0.2
"""Over less than this they mean nothing."""
SAMPLES_MAX: Final = 64

_GAUGES: Final = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_use",
}
_COUNTERS: Final = {
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generated_tokens",
    "vllm:prefix_cache_queries_total": "queried_tokens",
    "vllm:prefix_cache_hits_total": "hit_tokens",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one engine's metrics page said. Counts are since its process began.

    `kv_use` is the used share of the KV cache, of the fullest core where there are several.
    """

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    queried_tokens: float = 0.0
    hit_tokens: float = 0.0

    @property
    def cache_hit_ratio(self) -> float | None:
        """The part of all prompt tokens looked for that was found; None before the first."""
        return self.hit_tokens / self.queried_tokens if self.queried_tokens else None


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second; None while there is nothing to measure them over."""

    prompt: float | None = None
    generated: float | None = None


def read(page: str) -> Reading | None:
    """A page in the text exposition format as a reading; None where it is not vLLM's."""
    values: dict[str, float] = {}
    for line in page.splitlines():
        if not line.startswith("vllm:"):
            continue
        name = line.partition("{")[0].partition(" ")[0]
        key = _GAUGES.get(name) or _COUNTERS.get(name)
        if key is None:
            continue
        try:
            value = float(line.rpartition(" ")[2])
        except ValueError:
            continue
        if key == "kv_use":
            values[key] = max(values.get(key, 0.0), value)
        else:
            values[key] = values.get(key, 0.0) + value
    if not values:
        return None
    running, waiting = int(values.pop("running", 0)), int(values.pop("waiting", 0))
    return Reading(running=running, waiting=waiting, **values)


def combined(readings: Sequence[Reading]) -> Reading:
    """Of several engines together; `kv_use` is that of the fullest."""
    return Reading(
        running=sum(one.running for one in readings),
        waiting=sum(one.waiting for one in readings),
        kv_use=max(one.kv_use for one in readings),
        prompt_tokens=sum(one.prompt_tokens for one in readings),
        generated_tokens=sum(one.generated_tokens for one in readings),
        queried_tokens=sum(one.queried_tokens for one in readings),
        hit_tokens=sum(one.hit_tokens for one in readings),
    )


@dataclass(slots=True)
class Window:
    """Readings of the same processes within the last `WINDOW_S`; others start it anew."""

    _of: Hashable = None
    _samples: deque[tuple[float, Reading]] = field(
        default_factory=lambda: deque(maxlen=SAMPLES_MAX)
    )

    def add(self, at_s: float, of: Hashable, reading: Reading) -> None:
        """A reading made at `at_s` (monotonic); `of` says of which processes."""
        if of != self._of:
            self._of = of
            self._samples.clear()
        while self._samples and self._samples[0][0] < at_s - WINDOW_S:
            self._samples.popleft()
        self._samples.append((at_s, reading))

    def rates(self) -> Rates:
        """Over the window, or as much of it as has been seen."""
        if len(self._samples) < 2:
            return Rates()
        (began_s, first), (ended_s, last) = self._samples[0], self._samples[-1]
        span_s = ended_s - began_s
        if span_s < SPAN_MIN_S:
            return Rates()
        return Rates(
            (last.prompt_tokens - first.prompt_tokens) / span_s,
            (last.generated_tokens - first.generated_tokens) / span_s,
        )
