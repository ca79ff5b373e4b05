"""How much of a model batches may have while others ask for it too. Pure."""

from dataclasses import dataclass
from typing import Final

from serve.settings.batches import Batches

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What else is asked of a model: requests in hand, and seconds since there was one.

    `lane` names what shares its engines with it.
    """

    lane: str
    others: int
    calm_for_s: float


def lines_allowed(settings: Batches, seen: Seen) -> int:
    """How many lines the model may work on at once now.

    Gaps between a person's requests are not taken for calm: a line that is begun in one is still
    there when the next request comes.
    """
    if seen.others or seen.calm_for_s < settings.calm_s:
        return min(settings.lines_beside, settings.concurrent_lines)
    return settings.concurrent_lines


def is_temporary(status: int) -> bool:
    """Whether an answer says that the same request may do better later."""
    return status in (429, 503)


def retry_in_s(tries: int, asked_s: float | None, chance: float) -> float:
    """Seconds to wait after so many tries, of which the latest was answered with `asked_s`.

    `chance` of 0 to 1 spreads those who wait for the same.
    """
    backoff_s = RETRY_FIRST_S * float(2 ** min(tries - 1, 10))
    return min(RETRY_MAX_S, max(backoff_s, asked_s or 0.0)) * (1 + chance / 4)
