"""Who waits for the engines of one model, who is on them, and who is sent away. Pure.

An engine is given about as many requests as it works on at once. The others wait here, where
tenants take turns: a request that is in the engine's own queue cannot be overtaken any more.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from serve.admission.fair import Entry, FairQueue
from serve.core.errors import Shed

CACHE_PART: Final = 0.9
"""Of the KV cache, to be filled; the rest is theirs too, and that of guesses that were too low."""
CREDIT_TOKENS: Final = 8192
"""What a tenant of weight 1 that has taken less than its share may catch up on at once."""
FLEX_WEIGHT: Final = 1 / 16
"""Of what a tenant asks for with `flex`, and in batches, beside all else."""
RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
GAP_MEMORY: Final = 0.05
"""Share of the newest gap between two ends in what is remembered of them."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the engines of a model work on at once: requests, and tokens where that is known.

    `spare` of the requests' places are kept for tenants with less than their share.
    """

    requests: int
    spare: int = 0
    cache_tokens: int | None = None

    @property
    def usual(self) -> int:
        """Places that are anybody's."""
        return max(1, self.requests - self.spare)


@dataclass(frozen=True, slots=True)
class Flow:
    """Whose requests wait in one line: a tenant's, and apart those that it is in no hurry for."""

    tenant: str
    flex: bool = False


@dataclass(slots=True, eq=False)
class Place:
    """One request, from when it comes to when it leaves. `call` is called once: with None when
    its turn has come, with an error where it is sent away."""

    flow: Flow
    weight: float
    cost: float
    ahead: bool
    call: Callable[[Shed | None], None]
    since_s: float
    running: bool = False
    left: bool = False
    entry: Entry["Place"] | None = None
    """Where it waits, if it has to."""

    @property
    def kind(self) -> str:
        """Its class: `priority`, `default` or `flex`."""
        return "priority" if self.ahead else "flex" if self.flow.flex else "default"


@dataclass(slots=True)
class _Present:
    """What one flow has in hand."""

    weight: float
    requests: int = 0
    running: int = 0


@dataclass(slots=True)
class Bounds:
    """What may be in hand for one model: requests, and tokens that wait."""

    requests: int
    tokens: int


class Line:
    """The requests in hand for one model and its adapters. `clock_s` only goes on."""

    def __init__(
        self, name: str, bounds: Bounds, clock_s: Callable[[], float], *, fair: bool = True
    ) -> None:
        self._name = name
        self._bounds = bounds
        self._clock_s = clock_s
        self._queue: FairQueue[Place] = FairQueue(fair=fair, credit=CREDIT_TOKENS)
        self._fair = fair
        self._flows: dict[Flow, _Present] = {}
        self._weights = 0.0
        self._running = 0
        self._running_tokens = 0.0
        self._gap_s = 0.0
        self._left_s = -math.inf
        self.capacity = Capacity(1)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Requests that have had their turn and have not left."""
        return self._running

    def waiting_of(self, flow: Flow) -> int:
        return self._queue.waiting_of(flow)

    def classes(self) -> dict[str, int]:
        """Requests that wait, by class."""
        found = dict.fromkeys(("priority", "default", "flex"), 0)
        for entry in self._queue:
            found[entry.item.kind] += 1
        return found

    def enter(
        self,
        flow: Flow,
        weight: float,
        cost: float,
        call: Callable[[Shed | None], None],
        *,
        ahead: bool = False,
    ) -> Place:
        """Take a request in hand; it may run at once where `Place.running` says so.

        Raises Shed where there is no room for it. `leave` with it, however it ends.
        """
        weight = weight * FLEX_WEIGHT if flow.flex else weight
        place = Place(flow, weight, cost, ahead, call, self._clock_s())
        if self._full(cost):
            self._make_room(place)
        present = self._flows.get(flow)
        if present is None:
            present = self._flows[flow] = _Present(weight)
            self._weights += weight
        present.requests += 1
        if not len(self._queue) and self._fits(place):
            self._queue.pass_through(flow, weight, cost)
            self._run(place)
            return place
        place.entry = self._queue.push(flow, weight, cost, place, ahead=ahead)
        self._take_turns(coming=place)
        return place

    def leave(self, place: Place, took: float | None = None) -> None:
        """A request has ended or gives up waiting; `took` tokens, where that is known."""
        if place.left:
            return
        if place.running:
            self._running -= 1
            self._running_tokens -= place.cost
            self._flows[place.flow].running -= 1
            if took is not None:
                self._queue.correct(place.flow, took - place.cost)
            self._count_end()
        elif place.entry is not None:
            self._queue.remove(place.entry)
        self._forget(place)
        self._take_turns()

    def changed(self, capacity: Capacity) -> None:
        """The engines can do more, or less, than was thought."""
        if capacity != self.capacity:
            self.capacity = capacity
            self._take_turns()

    def _take_turns(self, coming: Place | None = None) -> None:
        while (entry := self._queue.peek()) is not None and self._fits(entry.item):
            self._queue.pop()
            self._run(entry.item)
            if entry.item is not coming:
                entry.item.call(None)

    def _run(self, place: Place) -> None:
        place.running = True
        self._running += 1
        self._running_tokens += place.cost
        self._flows[place.flow].running += 1

    def _fits(self, place: Place) -> bool:
        """Whether the next request may run now."""
        capacity = self.capacity
        if not self._running or not self._fair:
            return True  # by arrival: all wait in the engines' own line
        if self._running >= capacity.requests:
            return False
        spare = self._running >= capacity.usual
        if capacity.cache_tokens is not None:
            tokens = self._running_tokens + place.cost
            if tokens > capacity.cache_tokens:
                return False
            spare = spare or tokens > CACHE_PART * capacity.cache_tokens
        return not spare or self._below_share(place)

    def _below_share(self, place: Place) -> bool:
        """Whether its flow has less on the engines than its weight gives it, or has had."""
        present = self._flows[place.flow]
        if present.running < present.weight / self._weights * self.capacity.usual:
            return True
        return place.entry is not None and self._queue.has_credit(place.entry)

    def _full(self, cost: float) -> bool:
        in_hand = self._running + len(self._queue)
        return in_hand >= self._bounds.requests or (
            len(self._queue) > 0 and self._queue.tokens + cost > self._bounds.tokens
        )

    def _make_room(self, place: Place) -> None:
        """Send away the last request of whoever has the most for its weight; perhaps this one."""
        if self._fair:
            mine = self._flows.get(place.flow)
            having = (1 + (mine.requests if mine else 0)) / place.weight
            flow = max(
                (one for one in self._flows if self._queue.waiting_of(one)),
                key=lambda one: self._flows[one].requests / self._flows[one].weight,
                default=None,
            )
            if flow is not None:
                most = self._flows[flow]
                last = self._queue.last_of(flow)
                if last is not None and most.requests / most.weight > having:
                    self._send_away(last.item)
                    if not self._full(place.cost):
                        return
        raise self._shed()

    def _send_away(self, place: Place) -> None:
        assert place.entry is not None
        self._queue.remove(place.entry)
        self._forget(place)
        place.call(self._shed())

    def _shed(self) -> Shed:
        in_hand = self._running + len(self._queue)
        return Shed(
            f"{in_hand} requests for {self._name} are in hand already (limits.queue_requests: "
            f"{self._bounds.requests}, limits.queue_tokens: {self._bounds.tokens}); "
            "try again shortly",
            retry_after_s=self.clears_in_s,
        )

    @property
    def clears_in_s(self) -> float:
        """Seconds until those that wait have had their turn, by how fast others ended lately."""
        return min(RETRY_MAX_S, max(RETRY_MIN_S, len(self._queue) * self._gap_s))

    def _count_end(self) -> None:
        now_s = self._clock_s()
        gap_s = now_s - self._left_s
        self._left_s = now_s
        if gap_s < math.inf and len(self._queue):
            self._gap_s += GAP_MEMORY * (gap_s - self._gap_s)

    def _forget(self, place: Place) -> None:
        place.left = True
        present = self._flows[place.flow]
        present.requests -= 1
        if not present.requests:
            del self._flows[place.flow]
            self._weights -= present.weight
            if not self._flows:
                self._weights = 0.0


@dataclass(slots=True)
class Lines:
    """The lines of all models, by what their engines are known as."""

    bounds: Bounds
    clock_s: Callable[[], float]
    fair: bool = True
    _lines: dict[str, Line] = field(default_factory=dict)

    def of(self, name: str) -> Line:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = Line(name, self.bounds, self.clock_s, fair=self.fair)
        return line

    def each(self) -> dict[str, Line]:
        return dict(self._lines)
