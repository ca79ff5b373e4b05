"""The life of one engine as a pure function: `step(life, event, now_s)` → (life, effects).

    stopped ──start──▶ starting ──probe answered──▶ ready ──sleep──▶ sleeping
       ▲                 ▲  │ ▲                       │                  │
       │                 │  │ └─────────wake──────────┼──────────────────┤
       │                 │  │                      (died)             (died)
       │                 └──┼─backoff, respawn────────┴──────────────────┘
       └──stop, from any ───┴──too many failed starts, or a death no restart mends──▶ failed

A process goes through three phases of its own: none → living → remains → none. Remains are what
a dead process had started; they hold its memory, so nothing is spawned before they are gone.

Nothing here waits, spawns or reads a clock, so every order of events can be tested.
"""

from dataclasses import replace
from typing import Final

from serve.engines.events import (
    Attend,
    Doze,
    Effect,
    Event,
    Exited,
    Hung,
    Probe,
    Probed,
    Report,
    Rouse,
    Send,
    Signal,
    SleepWanted,
    Slept,
    Spawn,
    Spawned,
    SpawnFailed,
    StartWanted,
    StopWanted,
    Sweep,
    Swept,
    Tick,
    Woke,
)
from serve.engines.states import Lifecycle, Phase, State, backoff_s, due_s

EXIT_CONFIGURATION: Final = 3
"""Exit code that says no restart can mend it (`serve.engines.vllm_main`)."""

Step = tuple[Lifecycle, tuple[Effect, ...]]


def step(life: Lifecycle, event: Event, now_s: float) -> Step:
    """The next life and what to do, in order. A report of an earlier process changes nothing."""
    match event:
        case StartWanted():
            return _start(life, now_s)
        case StopWanted(grace_s):
            return _stop(life, grace_s, now_s)
        case SleepWanted(level):
            return _sleep(life, level)
        case Tick():
            return _tick(life, now_s)
        case _:
            return _reported(life, event, now_s)


def _reported(life: Lifecycle, event: Report, now_s: float) -> Step:
    expected = Phase.REMAINS if isinstance(event, Swept) else Phase.LIVING
    if event.generation != life.generation or life.phase is not expected:
        return life, ()
    match event:
        case Spawned(_, pid):
            result: Step = replace(life, pid=pid), ()
        case SpawnFailed(generation, reason):
            stillborn = replace(life, sentence=life.sentence or reason)
            result = _bury(stillborn, Swept(generation, ""), now_s)
        case Probed():
            result = _probed(life, event, now_s)
        case Slept(_, error):
            result = _slept(life, error, now_s)
        case Woke(_, error):
            result = _woke(life, error)
        case Hung(_, reason):
            result = _hung(life, reason)
        case Exited(_, code):
            result = _exited(life, code, now_s)
        case Swept():
            result = _bury(life, event, now_s)
    return result


def _start(life: Lifecycle, now_s: float) -> Step:
    match life.state:
        case State.STARTING | State.READY:
            return life, ()
        case State.SLEEPING if life.turning:
            # It is still going to sleep: woken as soon as it does (`_slept`).
            return replace(life, state=State.STARTING, started_s=now_s), ()
        case State.SLEEPING:
            return _rouse(life, now_s)
        case State.STOPPED | State.FAILED:
            anew = replace(life, attempts=0, crashes=0, last_error=None)
            if life.phase is Phase.NONE:
                return _spawn(anew, now_s)
            # The old process is on its way out; the next follows once it is gone (`_bury`).
            return replace(anew, state=State.STARTING), ()


def _spawn(life: Lifecycle, now_s: float) -> Step:
    generation = life.generation + 1
    born = replace(
        life,
        state=State.STARTING,
        phase=Phase.LIVING,
        generation=generation,
        started_s=now_s,
        backoff_until_s=None,
        refusal=None,
    )
    return born, (Spawn(generation), Probe(generation, life.policy.probe_every_s))


def _stop(life: Lifecycle, grace_s: float, now_s: float) -> Step:
    stopped = replace(life, state=State.STOPPED, backoff_until_s=None)
    if life.phase is not Phase.LIVING:
        return stopped, ()
    if not life.leaving:
        told = replace(stopped, leaving=True, kill_at_s=now_s + grace_s)
        return told, (Send(life.generation, Signal.TERM),)
    if life.kill_at_s is None:  # killed already
        return stopped, ()
    # Asked again: the more impatient of those who ask is heard.
    return replace(stopped, kill_at_s=min(life.kill_at_s, now_s + grace_s)), ()


def _tick(life: Lifecycle, now_s: float) -> Step:
    due = due_s(life)
    if due is None or now_s < due:
        return life, ()
    if life.phase is Phase.NONE:
        return _spawn(replace(life, restarts=life.restarts + 1), now_s)
    if life.leaving:
        return replace(life, kill_at_s=None), (Send(life.generation, Signal.KILL),)
    if life.state is State.STARTING:
        late = f"not ready within {life.policy.start_timeout_s:g} s"
        return _condemn(life, f"{late}: {life.refusal}" if life.refusal else late)
    return replace(life, crashes=0), ()


def _condemn(life: Lifecycle, sentence: str) -> Step:
    """End the process ourselves; its end counts as a crash."""
    condemned = replace(life, state=State.STARTING, leaving=True, sentence=sentence)
    return condemned, (Send(life.generation, Signal.KILL),)


def _probed(life: Lifecycle, probed: Probed, now_s: float) -> Step:
    error = probed.error
    if life.state is not State.STARTING or life.leaving or life.turning:
        return life, ()
    if error is not None and probed.frozen_s >= life.policy.hang_idle_s:
        stopped = f"hung: stopped by a signal for {probed.frozen_s:.0f} s while it started"
        return _condemn(replace(life, hangs=life.hangs + 1), stopped)
    if error is not None:
        again = Probe(life.generation, life.policy.probe_every_s)
        return replace(life, refusal=error), (again,)
    return replace(
        life,
        state=State.READY,
        ready_s=now_s,
        start_took_s=now_s - life.started_s if life.ready_s is None else life.start_took_s,
        attempts=0,
        last_error=None,
    ), (Attend(life.generation),)


def _hung(life: Lifecycle, reason: str) -> Step:
    if life.state is not State.READY:
        return life, ()
    return _condemn(replace(life, hangs=life.hangs + 1), reason)


def _sleep(life: Lifecycle, level: int) -> Step:
    if life.state is not State.READY:
        return life, ()
    asleep = replace(life, state=State.SLEEPING, turning=True, sleep_level=level)
    return asleep, (Doze(life.generation, level),)


def _slept(life: Lifecycle, error: str | None, now_s: float) -> Step:
    if not life.turning:
        return life, ()
    turned = replace(life, turning=False)
    if life.leaving:
        return turned, ()
    if error is not None:
        # It says that it is awake; it is believed once it answers.
        awake = replace(turned, state=State.STARTING, started_s=now_s, refusal=error)
        return awake, (Probe(life.generation, 0.0),)
    return _rouse(turned, now_s) if life.state is State.STARTING else (turned, ())


def _rouse(life: Lifecycle, now_s: float) -> Step:
    woken = replace(life, state=State.STARTING, turning=True, started_s=now_s, refusal=None)
    return woken, (Rouse(life.generation, life.sleep_level),)


def _woke(life: Lifecycle, error: str | None) -> Step:
    if not life.turning:
        return life, ()
    turned = replace(life, turning=False)
    if life.leaving:
        return turned, ()
    if error is not None:
        return _condemn(turned, f"could not be woken: {error}")
    return turned, (Probe(life.generation, 0.0),)


def _exited(life: Lifecycle, code: int, now_s: float) -> Step:
    healthy = life.ready_s is not None and now_s - life.ready_s >= life.policy.healthy_s
    dead = replace(
        life,
        state=State.STOPPED if life.state is State.STOPPED else State.STARTING,
        phase=Phase.REMAINS,
        pid=None,
        kill_at_s=None,
        exit_code=code,
        crashes=0 if healthy else life.crashes,
    )
    return dead, (Sweep(life.generation),)


def _bury(life: Lifecycle, event: Swept, now_s: float) -> Step:
    """The process and all it had started are gone: what follows."""
    gone = replace(
        life,
        phase=Phase.NONE,
        pid=None,
        ready_s=None,
        leaving=False,
        kill_at_s=None,
        sentence=None,
        turning=False,
        exit_code=None,
    )
    if event.survivors:
        error = f"{event.survivors} of its processes survive SIGKILL and hold its memory"
        state = State.STOPPED if life.state is State.STOPPED else State.FAILED
        return replace(gone, state=state, last_error=error), ()
    if life.state is State.STOPPED:
        return gone, ()
    if life.leaving and life.sentence is None:  # stopped, then wanted again
        return _spawn(gone, now_s)
    return _crashed(life, gone, _obituary(life, event.last_words), now_s)


def _crashed(life: Lifecycle, gone: Lifecycle, error: str, now_s: float) -> Step:
    attempts = life.attempts + (life.ready_s is None)
    crashes = life.crashes + 1
    counted = replace(gone, attempts=attempts, crashes=crashes, last_error=error)
    unmendable = life.sentence is None and life.exit_code == EXIT_CONFIGURATION
    if unmendable or attempts >= life.policy.restarts_max:
        return replace(counted, state=State.FAILED), ()
    until_s = now_s + backoff_s(life.policy, crashes)
    return replace(counted, state=State.STARTING, backoff_until_s=until_s), ()


def _obituary(life: Lifecycle, last_words: str) -> str:
    if life.sentence is not None:
        how = life.sentence
    elif life.exit_code is not None and life.exit_code < 0:
        how = f"killed by signal {-life.exit_code}"
    else:
        how = f"ended by itself with exit code {life.exit_code}"
    return f"{how}: {last_words}" if last_words else how
