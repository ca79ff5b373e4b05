"""Whose request is next: weighted fair queueing by tokens. Pure.

Every flow (a tenant, mostly) has a line of its own. A flow's next request starts, in virtual time,
when the one before it has had its tokens divided by the flow's weight; the request that starts
first is taken first (start-time fair queueing: Goyal, Vin, Cheng, 1996). So flows that wait get
tokens in proportion to their weights, none waits for ever, and an idle engine is never kept
waiting. A flow that has taken less than its share for a while may catch up on a bounded part of
it, its credit: then a few requests at once of someone who asks little do not wait for their share.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

FLOWS_SPARE: Final = 64
"""Flows that are remembered before those are forgotten that have nothing to be remembered for."""
CLASSES: Final = 2
"""Requests of a flow that go first, and the others."""


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One request that waits; `ahead`: before the others of its flow."""

    flow: Hashable
    cost: float
    item: T
    ahead: bool = False


@dataclass(slots=True)
class _Flow(Generic[T]):
    weight: float
    finish: float = 0.0
    """Virtual time at which all that has been taken of it is paid for; its next one starts then."""
    debt: float = 0.0
    """What corrections add to that; negative where less was used than was asked for."""
    turn: int = -1
    """Tells its place in the heap from places that it has left; negative while it has none."""
    tokens: float = 0.0
    lines: tuple[OrderedDict[Entry[T], None], ...] = field(
        default_factory=lambda: tuple(OrderedDict() for _ in range(CLASSES))
    )

    def __len__(self) -> int:
        return sum(map(len, self.lines))

    @property
    def first(self) -> Entry[T]:
        return next(iter(next(filter(None, self.lines))))

    @property
    def last(self) -> Entry[T]:
        return next(reversed(next(filter(None, reversed(self.lines)))))


class FairQueue(Generic[T]):
    """Requests that wait. Each operation takes O(log n) of the flows.

    `credit` is in tokens, for a weight of 1. With `fair` false it is one line in the order of
    coming, for comparison.
    """

    def __init__(self, *, fair: bool = True, credit: float = 0.0) -> None:
        self._fair = fair
        self._credit = credit
        self._flows: dict[Hashable, _Flow[T]] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._turns = itertools.count()
        self._now = 0.0
        self._waiting = 0
        self._forget_at = FLOWS_SPARE
        self.tokens = 0.0
        """Of all requests that wait."""

    def __len__(self) -> int:
        return self._waiting

    def push(
        self, flow: Hashable, weight: float, cost: float, item: T, *, ahead: bool = False
    ) -> Entry[T]:
        """Let a request wait; `cost` is in tokens. The flow's weight is this one from now on."""
        entry = Entry(flow if self._fair else None, cost, item, ahead and self._fair)
        state = self._flow(entry.flow, weight)
        idle = not len(state)
        state.lines[0 if entry.ahead else -1][entry] = None
        state.tokens += cost
        self.tokens += cost
        self._waiting += 1
        if idle:
            self._enter(entry.flow, state)
        return entry

    def pass_through(self, flow: Hashable, weight: float, cost: float) -> None:
        """Charge a flow for a request that is taken as it comes, while none waits.

        It is what `push` and `pop` would do, and quicker: most requests find nobody waiting.
        """
        state = self._flow(flow if self._fair else None, weight)
        self._pay(state)
        # Nobody else waits: what it is given now is taken from no one, and its credit neither.
        self._now = state.finish = max(self._now, state.finish)
        state.finish += cost / weight

    def peek(self) -> Entry[T] | None:
        """The request that is next; None where none waits."""
        while self._heap:
            _, turn, flow = self._heap[0]
            state = self._flows.get(flow)
            if state is not None and state.turn == turn:
                return state.first
            heapq.heappop(self._heap)
        return None

    def pop(self) -> Entry[T] | None:
        """Take that request, and charge its flow."""
        entry = self.peek()
        if entry is None:
            return None
        start, _, _ = heapq.heappop(self._heap)
        state = self._flows[entry.flow]
        self._now = max(self._now, start)
        self._take(entry, state)
        if not self._waiting or len(state) == self._waiting:
            # Nobody else waits: what it is given now is taken from no one, and its credit neither.
            state.finish = max(state.finish, self._now)
        state.finish += entry.cost / state.weight
        state.turn = -1
        if len(state):
            self._enter(entry.flow, state)
        return entry

    def has_credit(self, entry: Entry[T]) -> bool:
        """Whether the flow of a request that waits has had less than its share, beside others."""
        state = self._flows[entry.flow]
        return len(state) < self._waiting and state.finish < self._now

    def remove(self, entry: Entry[T]) -> bool:
        """Take a request out that waits no more; False where it had been taken."""
        state = self._flows.get(entry.flow)
        if state is None or all(entry not in line for line in state.lines):
            return False
        self._take(entry, state)
        if not len(state):
            state.turn = -1
        return True

    def correct(self, flow: Hashable, tokens: float) -> None:
        """What a request of this flow took beyond its cost; negative where it took less."""
        state = self._flows.get(flow if self._fair else None)
        if state is not None:
            state.debt += tokens / state.weight

    def waiting_of(self, flow: Hashable) -> int:
        """Requests of one flow that wait."""
        state = self._flows.get(flow if self._fair else None)
        return 0 if state is None else len(state)

    def last_of(self, flow: Hashable) -> Entry[T] | None:
        """The request of a flow that would be taken last."""
        state = self._flows.get(flow if self._fair else None)
        return state.last if state else None

    def __iter__(self) -> Iterator[Entry[T]]:
        for state in self._flows.values():
            for line in state.lines:
                yield from line

    def _flow(self, flow: Hashable, weight: float) -> _Flow[T]:
        state = self._flows.get(flow)
        if state is None:
            self._forget_some()
            state = self._flows[flow] = _Flow(weight, self._now - self._credit)
        state.weight = weight
        return state

    def _pay(self, state: _Flow[T]) -> None:
        state.finish = max(self._now - self._credit, state.finish + state.debt)
        state.debt = 0.0

    def _enter(self, flow: Hashable, state: _Flow[T]) -> None:
        self._pay(state)
        state.turn = next(self._turns)
        heapq.heappush(self._heap, (state.finish, state.turn, flow))
        if len(self._heap) > 2 * len(self._flows) + FLOWS_SPARE:  # flows that left without a turn
            self._heap = [one for one in self._heap if self._flows[one[2]].turn == one[1]]
            heapq.heapify(self._heap)

    def _take(self, entry: Entry[T], state: _Flow[T]) -> None:
        del state.lines[0 if entry.ahead else -1][entry]
        state.tokens -= entry.cost
        self.tokens -= entry.cost
        self._waiting -= 1

    def _forget_some(self) -> None:
        """Forget flows that a new one would be no different from."""
        if len(self._flows) < self._forget_at:
            return
        self._flows = {
            flow: state
            for flow, state in self._flows.items()
            if len(state) or state.finish + state.debt > self._now - self._credit
        }
        self._heap = [one for one in self._heap if one[2] in self._flows]
        heapq.heapify(self._heap)
        self._forget_at = 2 * len(self._flows) + FLOWS_SPARE
