"""How many requests each model has in hand, and who of them may run."""

import math
import time
from collections import Counter
from typing import Final

from serve.admission.line import Bounds, Line, Lines
from serve.core.errors import Draining

QUEUE_TOKENS_MAX: Final = 4_000_000


class Gate:
    """Counts the requests in hand, model by model, and keeps the lines of those that wait.

    A model and its adapters share a line, because they share engines.
    """

    def __init__(
        self,
        queue_requests_max: int,
        queue_tokens_max: int = QUEUE_TOKENS_MAX,
        *,
        fair: bool = True,
    ) -> None:
        self.bounds = Bounds(queue_requests_max, queue_tokens_max)
        self._lines = Lines(self.bounds, time.monotonic, fair=fair)
        self._in_hand: Counter[str] = Counter()
        self._background: Counter[str] = Counter()
        self._left_s: dict[str, float] = {}
        self._draining = False
        self.opening = False
        """Engines may be ready, and what their requests need besides is not yet."""

    def line(self, name: str) -> Line:
        """The line before the engines of this model."""
        return self._lines.of(name)

    def waiting(self) -> dict[tuple[str, str], int]:
        """Requests that wait, by model and class."""
        return {
            (name, kind): count
            for name, line in self._lines.each().items()
            for kind, count in line.classes().items()
        }

    def enter(self, model_id: str, *, background: bool = False) -> None:
        """Count one request; raises Draining. Pair with `leave`."""
        if self._draining:
            raise Draining("this server is stopping; send the request to another", retry_after_s=5)
        self._in_hand[model_id] += 1
        if background:
            self._background[model_id] += 1

    def leave(self, model_id: str, *, background: bool = False) -> None:
        """One counted request has ended, however it ended."""
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
