"""Which engines are loaded, put to sleep and stopped, so that those wanted fit the memory. Pure.

Who wants a model is served in the order of asking, and nobody later takes memory that the first
still needs. Room is made by engines that nobody uses, least recently used first, by sleep where
that is enough. Only where those are not enough is an engine in use drained: requests for it wait
from then on, those on it end in peace. Pinned engines give no room at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from serve.engines.memory import NOTHING, Amounts, Need, in_words, minus, plus, short_of


class Posture(StrEnum):
    """What an engine is to the memory."""

    ABSENT = "absent"
    LOADING = "loading"
    WAKING = "waking"
    AWAKE = "awake"
    DOZING = "dozing"
    """On its way to sleep."""
    ASLEEP = "asleep"
    LEAVING = "leaving"
    """Being stopped; holds its memory until its processes are gone."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One engine as the plan sees it.

    `wanted_since_s`: since when the oldest of those who wait for it does. `ailing`: its start
    has failed and is being tried again.
    """

    key: str
    need: Need
    posture: Posture = Posture.ABSENT
    pinned: bool = False
    in_use: int = 0
    wanted_since_s: float | None = None
    last_used_s: float = 0.0
    ready_since_s: float = 0.0
    load_s: float = 0.0
    """What its latest load took."""
    idle_sleep_s: float | None = None
    draining: bool = False
    ailing: bool = False
    left: Posture = Posture.AWAKE
    """What it was before it was told to leave."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The plan's sense of time."""

    patience_s: float = 2.0
    """A wait this long may be ended by draining an engine in use."""
    turn_s: float = 10.0
    """An engine in use is not drained so soon after its load …"""
    turn_loads: float = 2.0
    """… nor within so many times what its load took: then swapping stays the lesser part."""


class Verb(StrEnum):
    """What can be done with an engine."""

    LOAD = "load"
    WAKE = "wake"
    SLEEP = "sleep"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Action:
    """`made_for`: the engine that needs the room; None where its own time was up."""

    verb: Verb
    key: str
    made_for: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in order; all that is not named goes on as it is.

    `draining` is the whole set of engines that get no new request. `refused` says of engines
    that can never fit why not. `look_again_s` is when time alone changes the plan.
    """

    actions: tuple[Action, ...] = ()
    draining: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    look_again_s: float | None = None


RULES: Final = Rules()


def plan(tenants: Sequence[Tenant], capacity: Amounts, now_s: float, rules: Rules = RULES) -> Plan:
    """The next steps. Call again after each change, and at `look_again_s`."""
    return _Draft(tenants, capacity, now_s, rules).drawn()


def misfit(tenants: Sequence[Tenant], capacity: Amounts) -> str | None:
    """Why these cannot all be awake at once, with the figures; None where they can."""
    total: Amounts = NOTHING
    for one in tenants:
        total = plus(total, one.need.awake)
    short = short_of(total, capacity)
    if not short:
        return None
    each = "; ".join(
        f"{one.key} {in_words(_only(one.need.awake, short))}"
        for one in tenants
        if any(one.need.awake.get(pool) for pool in short)
    )
    return (
        f"{in_words(_only(total, short))} needed, {in_words(_only(capacity, short))} granted "
        f"({each})"
    )


def _only(amounts: Amounts, pools: Sequence[str]) -> Amounts:
    return {pool: amounts.get(pool, 0) for pool in pools}


def held(one: Tenant) -> Amounts:
    """What an engine takes, or may take, at this moment."""
    match one.left if one.posture is Posture.LEAVING else one.posture:
        case Posture.LOADING | Posture.AWAKE | Posture.LEAVING:
            return one.need.awake
        case Posture.WAKING | Posture.DOZING:
            return one.need.turning
        case Posture.ASLEEP:
            return one.need.asleep or NOTHING
        case _:
            return NOTHING


def settled(one: Tenant) -> Amounts:
    """What it will take once what is under way with it has ended."""
    match one.posture:
        case Posture.ABSENT | Posture.LEAVING:
            return NOTHING
        case Posture.DOZING | Posture.ASLEEP:
            return one.need.asleep or NOTHING
        case _:
            return one.need.awake


class _Draft:
    """A plan in the making. `now` is what engines hold, `then` what they will once all is done."""

    def __init__(
        self, tenants: Sequence[Tenant], capacity: Amounts, now_s: float, rules: Rules
    ) -> None:
        self._tenants = {one.key: one for one in tenants}
        self._capacity = capacity
        self._now_s = now_s
        self._rules = rules
        self._now = {one.key: held(one) for one in tenants}
        self._then = {one.key: settled(one) for one in tenants}
        # One at a time: engines that start together fight for cores, and each is ready later.
        self._loading = any(one.posture is Posture.LOADING and not one.ailing for one in tenants)
        self._actions: list[Action] = []
        self._doomed: set[str] = set()
        self._draining: set[str] = set()
        self._refused: dict[str, str] = {}
        self._looks: list[float] = []

    def drawn(self) -> Plan:
        self._rest_idle()
        self._mend_excess()
        for one in self._wanted():
            self._admit(one)
        return Plan(
            tuple(self._actions),
            frozenset(self._draining),
            self._refused,
            min(self._looks, default=None),
        )

    def _wanted(self) -> list[Tenant]:
        there = (Posture.LOADING, Posture.WAKING, Posture.AWAKE)
        wanted = [
            (one.wanted_since_s, order, one)
            for order, one in enumerate(self._tenants.values())
            if one.wanted_since_s is not None and one.posture not in there
        ]
        return [one for _, _, one in sorted(wanted, key=lambda item: item[:2])]

    # Memory

    def _left(self, amounts: Mapping[str, Amounts]) -> Amounts:
        left = self._capacity
        for amount in amounts.values():
            left = minus(left, amount)
        return left

    def _fits(self, held_by: Mapping[str, Amounts]) -> bool:
        return not any(amount < 0 for amount in self._left(held_by).values())

    # One who is wanted

    def _admit(self, one: Tenant) -> None:
        beside = [other for other in self._tenants.values() if other.pinned and other is not one]
        why = misfit([one, *beside], self._capacity)
        if why is not None:
            self._refused[one.key] = why
            return
        if self._fits(self._then | {one.key: one.need.awake}):
            self._then[one.key] = one.need.awake
            self._begin(one)
            return
        idle = [other for other in self._lru() if self._gives_room(other, one)]
        rooms = self._room(one, idle)
        if rooms is None:
            busy = [other for other in self._lru() if self._may_be_drained(other, one)]
            busy.sort(key=lambda other: not other.draining)
            rooms = self._room(one, [*idle, *busy])
        if rooms is None:
            return  # those who asked earlier take what there is
        self._then[one.key] = one.need.awake
        in_use = [victim for victim, _ in rooms if victim.in_use]
        # None goes before it must: the load before this one may take a while, and who waits for
        # an engine in use to end may leave before that.
        early = bool(in_use) or (self._loading and one.posture is not Posture.ASLEEP)
        for victim, verb in rooms:
            self._doomed.add(victim.key)
            self._then[victim.key] = self._left_by(victim, verb)
            if not early:
                self._evict(victim, verb, one.key)
        if in_use:
            self._drain(in_use, one)

    def _begin(self, one: Tenant) -> None:
        """Load or wake it, as soon as what has to go for it has gone."""
        if one.posture is Posture.ASLEEP:
            verb, takes = Verb.WAKE, one.need.turning
        else:
            verb, takes = Verb.LOAD, one.need.awake
            if self._loading:
                return
        ready = one.posture in (Posture.ABSENT, Posture.ASLEEP)
        if ready and self._fits(self._now | {one.key: takes}):
            self._now[one.key] = takes
            self._loading = self._loading or verb is Verb.LOAD
            self._actions.append(Action(verb, one.key))

    # Those who make room

    def _lru(self) -> list[Tenant]:
        return sorted(self._tenants.values(), key=lambda one: one.last_used_s)

    def _gives_room(self, other: Tenant, to: Tenant | None) -> bool:
        """Whether it can go at once: nobody uses it, and nobody has asked for it earlier."""
        return not other.in_use and self._may_go(other, to)

    def _may_be_drained(self, other: Tenant, to: Tenant) -> bool:
        return other.in_use > 0 and self._may_go(other, to)

    def _may_go(self, other: Tenant, to: Tenant | None) -> bool:
        if other is to or other.pinned or other.key in self._doomed:
            return False
        return self._is_there(other) and self._asked_later(other, to)

    @staticmethod
    def _is_there(other: Tenant) -> bool:
        if other.posture in (Posture.LOADING, Posture.WAKING):
            return other.ailing
        return other.posture in (Posture.AWAKE, Posture.ASLEEP)

    @staticmethod
    def _asked_later(other: Tenant, to: Tenant | None) -> bool:
        if other.wanted_since_s is None:
            return True
        if to is None or to.wanted_since_s is None:
            return False
        return other.wanted_since_s > to.wanted_since_s

    def _room(
        self, one: Tenant | None, victims: Sequence[Tenant]
    ) -> list[tuple[Tenant, Verb]] | None:
        """The fewest of these victims, in their order, that make room; None where all do not."""
        chosen: dict[str, Verb] = {}

        def enough() -> bool:
            then = self._then | {
                key: self._left_by(self._tenants[key], verb) for key, verb in chosen.items()
            }
            return self._fits(then | ({one.key: one.need.awake} if one is not None else {}))

        for verb in (Verb.SLEEP, Verb.STOP):
            for victim in victims:
                if verb is Verb.SLEEP and not self._can_doze(victim):
                    continue
                if enough():
                    break
                chosen[victim.key] = verb
        if not enough():
            return None
        for victim in reversed(victims):  # who gives nothing that is lacking may stay
            if victim.key not in chosen:
                continue
            verb = chosen.pop(victim.key)
            if not enough() and verb is Verb.STOP and self._can_doze(victim):
                chosen[victim.key] = Verb.SLEEP
            if not enough():
                chosen[victim.key] = verb
        return [(victim, chosen[victim.key]) for victim in victims if victim.key in chosen]

    def _can_doze(self, one: Tenant) -> bool:
        return (
            one.need.asleep is not None
            and one.posture is Posture.AWAKE
            and self._fits(self._now | {one.key: one.need.turning})
        )

    @staticmethod
    def _left_by(one: Tenant, verb: Verb) -> Amounts:
        return (one.need.asleep or NOTHING) if verb is Verb.SLEEP else NOTHING

    def _evict(self, victim: Tenant, verb: Verb, made_for: str | None) -> None:
        self._doomed.add(victim.key)
        self._then[victim.key] = self._left_by(victim, verb)
        if verb is Verb.SLEEP:
            self._now[victim.key] = victim.need.turning
        self._actions.append(Action(verb, victim.key, made_for))

    def _drain(self, victims: Sequence[Tenant], one: Tenant) -> None:
        """Mark them, once the one who waits has been patient and each has had its turn."""
        assert one.wanted_since_s is not None
        rules = self._rules
        due_s = one.wanted_since_s + rules.patience_s
        for victim in victims:
            turn_s = max(rules.turn_s, rules.turn_loads * victim.load_s)
            if not victim.draining:
                due_s = max(due_s, victim.ready_since_s + turn_s)
        if due_s > self._now_s:
            self._looks.append(due_s)
            victims = [victim for victim in victims if victim.draining]
        self._draining |= {victim.key for victim in victims}

    # What nobody asks for

    def _rest_idle(self) -> None:
        """Put to sleep, or stop, those whose time without a request is up."""
        for one in self._tenants.values():
            if one.idle_sleep_s is None or one.posture is not Posture.AWAKE:
                continue
            used = one.in_use or one.wanted_since_s is not None
            due_s = (self._now_s if used else one.last_used_s) + one.idle_sleep_s
            if due_s > self._now_s:
                self._looks.append(due_s)
            elif self._can_doze(one):
                self._evict(one, Verb.SLEEP, None)
            elif not one.pinned:
                self._evict(one, Verb.STOP, None)

    def _mend_excess(self) -> None:
        """Make good what engines were found to take more than was planned."""
        lacking = [pool for pool, left in self._left(self._then).items() if left < 0]
        if not lacking:
            return
        idle = [
            other
            for other in self._lru()
            if self._gives_room(other, None) and any(held(other).get(pool) for pool in lacking)
        ]
        rooms = self._room(None, idle)
        # All of them, where even they are not enough: no engine in use pays for it.
        for victim, verb in rooms if rooms is not None else [(one, Verb.STOP) for one in idle]:
            self._evict(victim, verb, None)
