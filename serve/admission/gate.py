"""How many requests one model may have in hand at once."""

import math
import time
from collections import Counter

from serve.core.errors import Draining, Overloaded


class Gate:
    """Counts the requests in hand per model and refuses beyond the bound.

    What is admitted waits in the engine's own queue, which orders work better than we could;
    the bound keeps that queue, and so the wait, finite.
    """

    def __init__(self, queue_requests_max: int) -> None:
        self.queue_requests_max = queue_requests_max
        self._in_hand: Counter[str] = Counter()
        self._background: Counter[str] = Counter()
        self._left_s: dict[str, float] = {}
        self._draining = False

    def enter(self, model_id: str, *, background: bool = False) -> None:
        """Admit one request; raises Overloaded or Draining. Pair with `leave`."""
        if self._draining:
            raise Draining("this server is stopping; send the request to another", retry_after_s=5)
        if self._in_hand[model_id] >= self.queue_requests_max:
            raise Overloaded(
                f"{self.queue_requests_max} requests for {model_id} are in hand already "
                "(limits.queue_requests); try again shortly"
            )
        self._in_hand[model_id] += 1
        if background:
            self._background[model_id] += 1

    def leave(self, model_id: str, *, background: bool = False) -> None:
        """One admitted request has ended, however it ended."""
        self._in_hand[model_id] -= 1
        if background:
            self._background[model_id] -= 1
        else:
            self._left_s[model_id] = time.monotonic()

    def drain(self) -> None:
        """Admit nothing from now on."""
        self._draining = True

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def in_hand(self) -> int:
        return self._in_hand.total()

    def foreground_of(self, model_id: str) -> int:
        """Requests in hand that somebody waits for."""
        return self._in_hand[model_id] - self._background[model_id]

    def calm_for_s(self, model_id: str) -> float:
        """Seconds since the last of those ended; none of them may be in hand."""
        return time.monotonic() - self._left_s.get(model_id, -math.inf)

    def in_hand_of(self, model_id: str) -> int:
        return self._in_hand[model_id]
