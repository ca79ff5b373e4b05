"""Whether an engine makes steps, judged from what it does and not from what it says. Pure.

Proof of a step is: bytes of an answer, a series of its metrics that only its core moves, an
answered one-token request. Its health route proves nothing: it answers while the core hangs.
Without proof an engine is asked for one token, and its time runs. Computing prolongs it, on
engines whose steps are the CPU's work, for one step there may take longer than any bound that
finds a hang in time; on a GPU it does not, for a process that waits for its device spins.
"""

from dataclasses import dataclass, replace
from typing import Final

from serve.engines.states import Policy

COMPUTING_SHARE: Final = 0.05
"""Of one core, over one look: less is no computing, but a server that answers its health route."""
COMPUTING_MIN_S: Final = 0.02
"""CPU time is counted in ticks of 10 ms: one of them proves nothing."""
COMPUTING_FACTOR: Final = 10
"""A step that computes without end is given up after so many times the bound under load."""
PROBE_COST_MAX: Final = 0.02
"""Share of an idle engine's time that probes may take."""
GAP_LOOKS_MAX: Final = 3
"""Time between two looks counts up to so many periods: the rest, nobody was there to see."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a lack of progress is a hang."""

    idle_s: float = 10.0
    loaded_s: float = 30.0
    every_s: float = 1.0
    counts_cpu: bool = True
    """The engine computes on the CPU."""

    @property
    def slack_s(self) -> float:
        """What a hang may last before the first look, and a verdict be late."""
        return 2 * self.every_s


def bounds_of(policy: Policy, *, counts_cpu: bool) -> Bounds:
    """The bounds a policy sets. Whatever it says, there are five looks before a verdict."""
    often_s = min(policy.hang_idle_s, policy.hang_loaded_s) / 5
    return Bounds(
        policy.hang_idle_s,
        policy.hang_loaded_s,
        min(policy.progress_every_s, often_s),
        counts_cpu=counts_cpu,
    )


@dataclass(frozen=True, slots=True)
class Signs:
    """What one look at a ready engine finds; counters only grow."""

    at_s: float
    received: int
    """Pieces of answers that have come from it."""
    waiting: int
    """Requests that have not been answered to their end, probes aside."""
    probes: int
    """Probes that have been answered with a token."""
    probe_out: bool
    """One has been sent and is not answered yet, or was refused."""
    probe_took_s: float = 0.0
    """What the latest answered one took."""
    pulse: tuple[float, ...] | None = None
    """The series that only its core moves; None where it was not asked or did not answer."""
    cpu_s: float | None = None
    """CPU time of its computing processes; None where it cannot be read."""
    frozen: bool = False
    """One of its processes is stopped (SIGSTOP, a debugger)."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered from look to look. Durations count observed time only."""

    last: Signs
    pulse: tuple[float, ...] | None = None
    """The latest in this silence: what the next is compared with."""
    silent_s: float = 0.0
    """Without proof of a step."""
    owed_s: float = 0.0
    """Without proof and without computing, while a request or a probe waits."""
    idle_s: float = 0.0
    """Without either, and no request waits."""
    asked_s: float = 0.0
    """A probe has been out."""


def look(before: Watch, signs: Signs, bounds: Bounds) -> Watch:
    """The memory after one more look."""
    passed_s = max(0.0, signs.at_s - before.last.at_s)
    if _proven(before, signs):
        return Watch(last=signs)
    seen_s = min(passed_s, GAP_LOOKS_MAX * bounds.every_s)
    watch = replace(
        before,
        last=signs,
        pulse=before.pulse if signs.pulse is None else signs.pulse,
        silent_s=before.silent_s + seen_s,
        asked_s=before.asked_s + seen_s if signs.probe_out else 0.0,
    )
    if _computes(before.last, signs, passed_s, bounds):
        return replace(watch, owed_s=0.0, idle_s=0.0)
    owes = signs.waiting > 0 or signs.probe_out
    return replace(
        watch,
        owed_s=before.owed_s + seen_s if owes else before.owed_s,
        idle_s=0.0 if signs.waiting else before.idle_s + seen_s,
    )


def _proven(before: Watch, signs: Signs) -> bool:
    moved = before.pulse is not None and signs.pulse is not None and before.pulse != signs.pulse
    last = before.last
    return moved or signs.received != last.received or signs.probes != last.probes


def _computes(last: Signs, signs: Signs, passed_s: float, bounds: Bounds) -> bool:
    if not bounds.counts_cpu or signs.frozen or signs.cpu_s is None or last.cpu_s is None:
        return False
    return signs.cpu_s - last.cpu_s >= max(COMPUTING_SHARE * passed_s, COMPUTING_MIN_S)


def wants_pulse(watch: Watch) -> bool:
    """Whether the next look shall read the engine's metrics: silent under load, and only then."""
    return watch.silent_s > 0 and watch.last.waiting > 0


def wants_probe(watch: Watch, bounds: Bounds) -> bool:
    """Whether it shall be asked for a token now."""
    if watch.last.probe_out or watch.silent_s <= 0:
        return False
    spared_s = watch.last.probe_took_s / PROBE_COST_MAX
    return watch.last.frozen or watch.silent_s >= max(bounds.idle_s / 3, spared_s)


def hang(watch: Watch, bounds: Bounds) -> str | None:
    """Why the engine is taken to hang, in words for the operator; None while it may live."""
    doing = "stopped by a signal" if watch.last.frozen else "without computing"
    idle_s = bounds.idle_s - bounds.slack_s
    if watch.idle_s >= idle_s and watch.asked_s >= bounds.idle_s / 3:
        return f"hung: idle, {doing}, and no answer to a one-token request"
    if watch.owed_s >= bounds.loaded_s - bounds.slack_s:
        return f"hung: no step for {watch.owed_s:.0f} s with {watch.last.waiting} waiting, {doing}"
    if watch.silent_s >= COMPUTING_FACTOR * bounds.loaded_s:
        return f"hung: computing for {watch.silent_s:.0f} s without finishing a step"
    return None
