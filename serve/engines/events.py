"""What can happen to an engine (events), and what can be done to it (effects).

`serve.engines.lifecycle` decides from the first what to do of the second. Each report and each
effect carries the generation of the process that it is of.
"""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class StartWanted:
    """Someone wants the model: start it, wake it, or try again what has failed."""


@dataclass(frozen=True, slots=True)
class StopWanted:
    """Nobody does any more; the process has `grace_s` to end by itself."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class SleepWanted:
    """Nobody has asked for a while: free the device's memory, keep the process.

    At level 1 the weights are kept in the machine's memory, at level 2 they are read from disk
    again when it wakes.
    """

    level: int = 1


@dataclass(frozen=True, slots=True)
class Spawned:
    """The process of this generation lives."""

    generation: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The process of this generation could not be started."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Probed:
    """A one-token request to this generation was answered (`error` is None) or not.

    `frozen_s` is for how long a signal has stopped one of its processes then.
    """

    generation: int
    error: str | None
    frozen_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Slept:
    """This generation has gone to sleep (`error` is None) or has refused to."""

    generation: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Woke:
    """This generation has woken (`error` is None) or could not."""

    generation: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Hung:
    """This generation answers, perhaps, but makes no step any more."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The process of this generation has ended; negative codes are signals."""

    generation: int
    code: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What the process had started is gone too, but for `survivors`."""

    generation: int
    last_words: str
    survivors: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """The time `due_s` named has come."""


Report = Spawned | SpawnFailed | Probed | Slept | Woke | Hung | Exited | Swept
"""What one process has to say; carries its generation."""

Event = StartWanted | StopWanted | SleepWanted | Tick | Report


class Signal(StrEnum):
    """How a process is told to end."""

    TERM = "term"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process; answered by Spawned or SpawnFailed, and at its end by Exited."""

    generation: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask for one token, after a pause; answered by Probed."""

    generation: int
    after_s: float


@dataclass(frozen=True, slots=True)
class Attend:
    """Watch that the engine makes steps for as long as it is ready; answered by Hung, if ever."""

    generation: int


@dataclass(frozen=True, slots=True)
class Doze:
    """Have the engine sleep; answered by Slept."""

    generation: int
    level: int = 1


@dataclass(frozen=True, slots=True)
class Rouse:
    """Have the engine wake from a sleep of this level; answered by Woke."""

    generation: int
    level: int = 1


@dataclass(frozen=True, slots=True)
class Send:
    """Ask the process to end (TERM), or end it and all of its group (KILL)."""

    generation: int
    signal: Signal


@dataclass(frozen=True, slots=True)
class Sweep:
    """Kill what the dead process left behind and wait until it is gone; answered by Swept."""

    generation: int


Effect = Spawn | Probe | Attend | Doze | Rouse | Send | Sweep
