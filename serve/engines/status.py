"""What an engine's life looks like from outside: to operators, and to who asks for an answer."""

from dataclasses import dataclass
from typing import Final

from serve.core.errors import EngineUnavailable
from serve.engines.states import Lifecycle, Phase, State, ready_in_s

RETRY_FAILED_S: Final = 60.0
"""Nothing but an operator mends a failed engine, so asking sooner is no use."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What others may know of an engine; a snapshot, never changed.

    `since_s` is the monotonic time at which it came to be in `state`; `restarts` counts the
    processes that replaced a crashed one, `hangs` those that were killed because they made no step;
    `next_start_in_s` is given while a backoff runs.
    `last_error` may quote the engine's own words: for the operator, not for clients.
    `turning`: an order to sleep or to wake has not been answered yet. `resting`: it is not ready
    because nobody needed it, or is being loaded again for one who does. `ready_in_s` is a guess of
    when it can answer, where that is not now.
    """

    model_id: str
    state: State
    pid: int | None
    generation: int
    since_s: float
    restarts: int
    last_error: str | None
    next_start_in_s: float | None
    hangs: int = 0
    turning: bool = False
    resting: bool = False
    ready_in_s: float | None = None


def status_of(model_id: str, life: Lifecycle, since_s: float, now_s: float) -> EngineStatus:
    """The snapshot of a life at `now_s`."""
    until_s = life.backoff_until_s
    return EngineStatus(
        model_id=model_id,
        state=life.state,
        pid=life.pid,
        generation=life.generation,
        since_s=since_s,
        restarts=life.restarts,
        last_error=life.last_error,
        next_start_in_s=None if until_s is None else max(0.0, until_s - now_s),
        hangs=life.hangs,
        turning=life.turning,
        ready_in_s=None if life.state is State.READY else ready_in_s(life, now_s),
    )


def unavailable(model_id: str, life: Lifecycle, now_s: float) -> EngineUnavailable:
    """Why there is no answer now, in words fit for a client, and when to ask again."""
    retry_s = ready_in_s(life, now_s)
    match life.state:
        case State.FAILED:
            reason = "could not be started; the operator of this server can see why in its log"
            retry_s = RETRY_FAILED_S
        case State.STOPPED:
            reason = "is stopped"
        case _ if life.crashes or life.phase is Phase.REMAINS:
            reason = f"is restarting after a crash; try again in {retry_s:.0f} s"
        case _:
            reason = f"is starting; try again in {retry_s:.0f} s"
    return EngineUnavailable(f"{model_id} {reason}", retry_after_s=retry_s)
