"""What an apply tells as it goes."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """Where an apply is."""

    PARSED = "parsed"
    PLANNED = "planned"
    STARTING = "starting"
    READY = "ready"
    EVALUATING = "evaluating"
    WAITING = "waiting"
    """Requests for the model wait from now on."""
    SHIFTED = "shifted"
    ADAPTERS = "adapters"
    """One has come, changed or gone, or is not served."""
    DRAINING = "draining"
    ROLLING_BACK = "rolling_back"
    DONE = "done"


class Outcome(StrEnum):
    """How an apply ended."""

    APPLIED = "applied"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that an apply has to tell; `text` says it to a person.

    `done` of `of` counts what is being worked through. The last event alone has an `outcome`.
    """

    stage: Stage
    text: str
    model: str | None = None
    done: int | None = None
    of: int | None = None
    outcome: Outcome | None = None

    def plain(self) -> dict[str, Any]:
        """The same for JSON, without what is not said."""
        return {name: value for name, value in asdict(self).items() if value is not None}
