"""How much there has been in the last so many seconds. Pure, on a clock that only goes on."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0
SLOTS: Final = {MINUTE_S: 1.0, DAY_S: 300.0}
"""How finely each span is looked at; what was in a slot leaves the span with its last second."""


@dataclass(slots=True)
class Window:
    """A sliding sum. In no `span_s` seconds, wherever they begin, is more than `limit` taken.

    What is corrected upwards afterwards counts all the same, and may go beyond it.
    """

    span_s: float
    limit: int
    total: int = 0
    _slots: deque[list[int]] = field(default_factory=deque)
    """[slot's number, amount], oldest first."""

    @property
    def slot_s(self) -> float:
        return SLOTS[self.span_s]

    def slot_at(self, at_s: float) -> int:
        """The number of the slot that an instant is in."""
        return int(at_s // self.slot_s)

    def used(self, now_s: float) -> int:
        """What counts now."""
        oldest = self.slot_at(now_s - self.span_s)
        while self._slots and self._slots[0][0] < oldest:
            self.total -= self._slots.popleft()[1]
        return self.total

    def left(self, now_s: float) -> int:
        """What may still be taken now."""
        return max(0, self.limit - self.used(now_s))

    def add(self, amount: int, now_s: float) -> int:
        """Take so much, whether there is room or not; the slot that it counts in."""
        slot = self.slot_at(now_s)
        self.put(slot, amount)
        return slot

    def put(self, slot: int, amount: int) -> None:
        """Change what a slot has had, unless it has left the window; never below nothing.

        A slot before the newest one is looked for from there: it is seldom far.
        """
        for known in reversed(self._slots):
            if known[0] == slot:
                amount = max(amount, -known[1])
                known[1] += amount
                self.total += amount
                return
            if known[0] < slot:
                break
        if amount <= 0:
            return
        if not self._slots or self._slots[-1][0] < slot:
            self._slots.append([slot, amount])
            self.total += amount
        else:
            self._insert(slot, amount)

    def load(self, slots: Iterable[tuple[int, int]]) -> None:
        """What had been taken before this process began."""
        for slot, amount in slots:
            self.put(slot, amount)

    def room_in_s(self, amount: int, now_s: float) -> float | None:
        """Seconds until so much may be taken; None if never, for it is more than the limit."""
        if amount > self.limit:
            return None
        over = self.used(now_s) + amount - self.limit
        if over <= 0:
            return 0.0
        for slot, had in self._slots:
            over -= had
            if over <= 0:
                return self._leaves_in_s(slot, now_s)
        return self.span_s

    def empty_in_s(self, now_s: float) -> float:
        """Seconds until all of it may be taken again."""
        self.used(now_s)
        return self._leaves_in_s(self._slots[-1][0], now_s) if self._slots else 0.0

    def _leaves_in_s(self, slot: int, now_s: float) -> float:
        return max(0.0, (slot + 1) * self.slot_s + self.span_s - now_s)

    def _insert(self, slot: int, amount: int) -> None:
        self.total += amount
        ordered = sorted([*self._slots, [slot, amount]])
        self._slots.clear()
        self._slots.extend(ordered)
