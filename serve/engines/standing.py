"""An engine's place in the memory, as an operator sees it."""

from dataclasses import dataclass

from serve.engines.memory import Amounts, Need
from serve.engines.planner import Posture


@dataclass(frozen=True, slots=True)
class Standing:
    """What an operator may know of one engine's place in the memory.

    `memory` is what it takes now, `need` what it takes while it answers; `measured` says that
    this was found, not estimated. `idle_s`: since its last request; `swap_s`: what its latest load
    or wake took.
    """

    key: str
    model_id: str
    posture: Posture
    pinned: bool
    draining: bool
    memory: Amounts
    need: Need
    measured: bool
    in_use: int
    waiting: int
    idle_s: float
    swap_s: float | None
    loads: int
    evictions: int
