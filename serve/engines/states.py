"""What is known of an engine, and what follows from it about time."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RETRY_FIRST_GUESS_S: Final = 5.0
RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 300.0


class State(StrEnum):
    """What an engine is to those who use it."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    SLEEPING = "sleeping"
    FAILED = "failed"


class Phase(StrEnum):
    """What there is of an engine's process."""

    NONE = "none"
    LIVING = "living"
    REMAINS = "remains"


@dataclass(frozen=True, slots=True)
class Policy:
    """The bounds of an engine's life."""

    start_timeout_s: float
    restarts_max: int = 5
    """Starts in a row that end before the engine was ready; then it is given up."""
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    healthy_s: float = 60.0
    """An engine ready this long has left its past crashes behind."""
    probe_every_s: float = 0.25
    hang_idle_s: float = 10.0
    """Within which an engine without work that makes no step is found, and killed."""
    hang_loaded_s: float = 30.0
    """The same, with work."""
    progress_every_s: float = 1.0
    """Seconds between two looks at a ready engine's progress."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """All that is known of one engine. `generation` counts its processes."""

    policy: Policy
    state: State = State.STOPPED
    phase: Phase = Phase.NONE
    generation: int = 0
    pid: int | None = None
    attempts: int = 0
    """Starts in a row that ended before the engine was ready."""
    crashes: int = 0
    """Crashes in a row, none of them after a healthy life; the backoff grows with them."""
    restarts: int = 0
    """Processes that replaced a crashed one, ever."""
    hangs: int = 0
    """Processes killed because they made no step any more, ever."""
    started_s: float = 0.0
    ready_s: float | None = None
    start_took_s: float | None = None
    """What the latest successful start took."""
    backoff_until_s: float | None = None
    leaving: bool = False
    """The process has been told to end."""
    kill_at_s: float | None = None
    """When a process that was told to end is made to."""
    sentence: str | None = None
    """Why we end the process ourselves, where that counts as its crash."""
    turning: bool = False
    """An order to sleep or to wake has not been answered yet."""
    sleep_level: int = 1
    """The level of the present or latest sleep."""
    refusal: str | None = None
    """Why the latest probe was not answered."""
    exit_code: int | None = None
    last_error: str | None = None


def due_s(life: Lifecycle) -> float | None:
    """When a Tick is needed next; None while only other events can change anything."""
    policy = life.policy
    if life.phase is Phase.NONE:
        return life.backoff_until_s
    if life.phase is Phase.REMAINS:
        return None
    if life.leaving:
        return life.kill_at_s
    if life.state is State.STARTING:
        return life.started_s + policy.start_timeout_s
    if life.state is State.READY and life.crashes and life.ready_s is not None:
        return life.ready_s + policy.healthy_s
    return None


def backoff_s(policy: Policy, crashes: int) -> float:
    """Seconds to wait after this many crashes in a row: 1, 2, 4 … 60."""
    doublings = min(max(0, crashes - 1), 32)
    return min(policy.backoff_first_s * 2.0**doublings, policy.backoff_max_s)


def ready_in_s(life: Lifecycle, now_s: float) -> float:
    """An honest guess, in seconds, of when asking again is worth it.

    What the latest start took is what this one will take; with no start to go by, one that has
    run for t seconds is taken to need as much again.
    """
    waiting_s = max(0.0, life.backoff_until_s - now_s) if life.backoff_until_s else 0.0
    ran_s = now_s - life.started_s if life.phase is Phase.LIVING and not life.leaving else 0.0
    took_s = life.start_took_s if life.start_took_s is not None else RETRY_FIRST_GUESS_S
    return min(max(waiting_s + max(took_s - ran_s, ran_s / 2), RETRY_MIN_S), RETRY_MAX_S)
