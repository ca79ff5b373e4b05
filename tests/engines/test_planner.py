"""The plan of the memory: each rule by example, and the promises under random histories."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from serve.engines.memory import GIB, HOST, Amounts, Need, in_words
from serve.engines.planner import (
    Action,
    Plan,
    Posture,
    Rules,
    Tenant,
    Verb,
    held,
    misfit,
    plan,
)

AWAKE, ABSENT, ASLEEP = Posture.AWAKE, Posture.ABSENT, Posture.ASLEEP
ROOM = {HOST: 10 * GIB}
NOW_S = 1000.0


def cpu(key: str, gib: float = 4, posture: Posture = ABSENT, **fields: Any) -> Tenant:
    return Tenant(key, Need({HOST: int(gib * GIB)}), posture, **fields)


def gpu(key: str, gib: int, posture: Posture = ABSENT, **fields: Any) -> Tenant:
    need = Need({"gpu0": gib * GIB, HOST: GIB}, {"gpu0": GIB, HOST: 3 * GIB})
    return Tenant(key, need, posture, **fields)


def steps(made: Plan) -> list[tuple[str, str]]:
    return [(action.verb.value, action.key) for action in made.actions]


# Loading


def test_what_is_wanted_and_fits_is_loaded() -> None:
    made = plan([cpu("a", wanted_since_s=1), cpu("b")], ROOM, NOW_S)
    assert made == Plan((Action(Verb.LOAD, "a"),))


def test_nothing_is_wanted_nothing_is_done() -> None:
    assert plan([cpu("a", posture=AWAKE), cpu("b")], ROOM, NOW_S) == Plan()


def test_engines_start_one_after_another_in_the_order_of_asking() -> None:
    tenants = [cpu("a", 1, wanted_since_s=2), cpu("b", 1, wanted_since_s=1)]
    assert steps(plan(tenants, ROOM, NOW_S)) == [("load", "b")]
    loading = [tenants[0], replace(tenants[1], posture=Posture.LOADING)]
    assert steps(plan(loading, ROOM, NOW_S)) == []


def test_a_start_that_fails_again_and_again_holds_up_nobody() -> None:
    ailing = cpu("a", 1, Posture.LOADING, wanted_since_s=1, ailing=True)
    assert steps(plan([ailing, cpu("b", 1, wanted_since_s=2)], ROOM, NOW_S)) == [("load", "b")]


def test_waking_need_not_wait_for_a_start() -> None:
    room = {"gpu0": 80 * GIB, HOST: 40 * GIB}
    tenants = [
        gpu("a", 20, Posture.LOADING, wanted_since_s=1),
        gpu("b", 20, ASLEEP, wanted_since_s=2),
    ]
    assert steps(plan(tenants, room, NOW_S)) == [("wake", "b")]


def test_nothing_is_loaded_before_the_memory_is_really_free() -> None:
    leaving = cpu("a", 8, Posture.LEAVING)
    assert steps(plan([leaving, cpu("b", 8, wanted_since_s=1)], ROOM, NOW_S)) == []
    gone = replace(leaving, posture=ABSENT)
    assert steps(plan([gone, cpu("b", 8, wanted_since_s=1)], ROOM, NOW_S)) == [("load", "b")]


# Who makes room


def test_the_least_recently_used_one_goes_first_and_no_more_than_needed() -> None:
    tenants = [
        cpu("new", 3, AWAKE, last_used_s=30),
        cpu("old", 3, AWAKE, last_used_s=10),
        cpu("mid", 3, AWAKE, last_used_s=20),
        cpu("w", 3, wanted_since_s=1),
    ]
    assert plan(tenants, ROOM, NOW_S).actions == (Action(Verb.STOP, "old", "w"),)


def test_one_whose_leaving_would_not_help_stays() -> None:
    tenants = [
        cpu("tiny", 0.5, AWAKE, last_used_s=1),
        cpu("large", 6, AWAKE, last_used_s=2),
        cpu("w", 9, wanted_since_s=1),
    ]
    assert steps(plan(tenants, ROOM, NOW_S)) == [("stop", "large")]


def test_sleep_is_enough_where_it_frees_the_device() -> None:
    room = {"gpu0": 80 * GIB, HOST: 40 * GIB}
    tenants = [gpu("a", 60, AWAKE), gpu("w", 60, wanted_since_s=1)]
    assert steps(plan(tenants, room, NOW_S)) == [("sleep", "a")]


def test_sleep_is_not_enough_where_what_stays_is_in_the_way() -> None:
    room = {"gpu0": 80 * GIB, HOST: 40 * GIB}
    tenants = [gpu("a", 60, AWAKE), gpu("w", 80, wanted_since_s=1)]
    assert steps(plan(tenants, room, NOW_S)) == [("stop", "a")]


def test_sleep_is_no_way_out_where_the_machine_cannot_keep_the_weights() -> None:
    room = {"gpu0": 80 * GIB, HOST: 2 * GIB}
    tenants = [gpu("a", 60, AWAKE), gpu("w", 60, wanted_since_s=1)]
    assert steps(plan(tenants, room, NOW_S)) == [("stop", "a")]


def test_a_sleeper_is_stopped_where_its_rest_is_in_the_way() -> None:
    room = {"gpu0": 80 * GIB, HOST: 40 * GIB}
    tenants = [gpu("a", 60, ASLEEP), gpu("w", 80, wanted_since_s=1)]
    assert steps(plan(tenants, room, NOW_S)) == [("stop", "a")]


def test_a_pinned_one_stays_and_who_can_never_fit_beside_it_is_told_why() -> None:
    tenants = [cpu("a", 8, AWAKE, pinned=True), cpu("w", 4, wanted_since_s=1)]
    made = plan(tenants, ROOM, NOW_S)
    assert made.actions == ()
    assert made.refused == {
        "w": "12.0 GiB of host memory needed, 10.0 GiB of host memory granted "
        "(w 4.0 GiB of host memory; a 8.0 GiB of host memory)"
    }


def test_a_pinned_one_that_is_not_there_yet_keeps_its_place_from_the_large() -> None:
    tenants = [cpu("a", 8, pinned=True), cpu("w", 4, wanted_since_s=1)]
    assert plan(tenants, ROOM, NOW_S).refused.keys() == {"w"}


def test_an_idle_one_is_taken_before_one_in_use_however_recently_it_was_used() -> None:
    tenants = [
        cpu("busy", 4, AWAKE, in_use=1, last_used_s=1),
        cpu("idle", 4, AWAKE, last_used_s=900),
        cpu("w", 4, wanted_since_s=1),
    ]
    made = plan(tenants, ROOM, NOW_S)
    assert steps(made) == [("stop", "idle")]
    assert not made.draining


def test_an_engine_that_starts_is_left_alone() -> None:
    tenants = [cpu("a", 8, Posture.LOADING), cpu("w", 8, wanted_since_s=1)]
    assert plan(tenants, ROOM, NOW_S) == Plan()


def test_one_that_fails_to_start_and_that_nobody_wants_makes_room() -> None:
    tenants = [cpu("a", 8, Posture.LOADING, ailing=True), cpu("w", 8, wanted_since_s=1)]
    assert steps(plan(tenants, ROOM, NOW_S)) == [("stop", "a")]


# Draining


def test_one_in_use_is_drained_and_never_stopped() -> None:
    tenants = [cpu("a", 8, AWAKE, in_use=3), cpu("w", 8, wanted_since_s=NOW_S - 5)]
    made = plan(tenants, ROOM, NOW_S)
    assert made.actions == ()
    assert made.draining == {"a"}


def test_draining_begins_when_patience_ends() -> None:
    tenants = [cpu("a", 8, AWAKE, in_use=3), cpu("w", 8, wanted_since_s=NOW_S - 0.5)]
    made = plan(tenants, ROOM, NOW_S, Rules(patience_s=2))
    assert made == Plan(look_again_s=NOW_S + 1.5)


def test_one_that_took_long_to_load_has_its_turn_first() -> None:
    busy = cpu("a", 8, AWAKE, in_use=3, ready_since_s=NOW_S - 30, load_s=40)
    tenants = [busy, cpu("w", 8, wanted_since_s=NOW_S - 20)]
    assert plan(tenants, ROOM, NOW_S).look_again_s == NOW_S + 50
    assert plan(tenants, ROOM, NOW_S + 50).draining == {"a"}


def test_what_is_being_drained_goes_on_to_be_and_nothing_else() -> None:
    tenants = [
        cpu("a", 5, AWAKE, in_use=1, last_used_s=1),
        cpu("b", 5, AWAKE, in_use=1, last_used_s=2, draining=True),
        cpu("w", 5, wanted_since_s=1),
    ]
    assert plan(tenants, ROOM, NOW_S).draining == {"b"}


def test_draining_ends_when_nobody_waits_any_more() -> None:
    tenants = [cpu("a", 8, AWAKE, in_use=1, draining=True), cpu("w", 8)]
    assert plan(tenants, ROOM, NOW_S).draining == frozenset()


def test_a_drained_one_makes_room_though_others_wait_for_it_by_now() -> None:
    tenants = [
        cpu("a", 8, AWAKE, draining=True, wanted_since_s=500),
        cpu("w", 8, wanted_since_s=400),
    ]
    assert steps(plan(tenants, ROOM, NOW_S)) == [("stop", "a")]


def test_idle_ones_stay_until_the_room_is_whole() -> None:
    tenants = [
        cpu("idle", 4, AWAKE),
        cpu("busy", 4, AWAKE, in_use=1),
        cpu("w", 9, wanted_since_s=1),
    ]
    made = plan(tenants, ROOM, NOW_S)
    assert (made.actions, made.draining) == ((), {"busy"})


def test_a_small_one_is_served_beside_while_a_large_one_waits_for_room() -> None:
    tenants = [
        cpu("busy", 7, AWAKE, in_use=1),
        cpu("large", 8, wanted_since_s=1),
        cpu("small", 2, wanted_since_s=2),
        cpu("medium", 3, wanted_since_s=3),
    ]
    made = plan(tenants, ROOM, NOW_S)
    assert steps(made) == [("load", "small")], "medium would take what large waits for"
    assert made.draining == {"busy"}


# Time alone


def test_who_is_idle_long_enough_sleeps_or_stops() -> None:
    room = {"gpu0": 80 * GIB, HOST: 40 * GIB}
    tenants = [
        gpu("a", 20, AWAKE, idle_sleep_s=60, last_used_s=NOW_S - 60),
        cpu("b", 2, AWAKE, idle_sleep_s=60, last_used_s=NOW_S - 61),
        cpu("c", 2, AWAKE, idle_sleep_s=60, last_used_s=NOW_S - 59),
        cpu("d", 2, AWAKE, idle_sleep_s=60, last_used_s=0, in_use=1),
        cpu("pinned", 2, AWAKE, idle_sleep_s=60, last_used_s=0, pinned=True),
        cpu("e", 2, AWAKE),
    ]
    made = plan(tenants, room, NOW_S)
    assert steps(made) == [("sleep", "a"), ("stop", "b")]
    assert made.look_again_s == NOW_S + 1


def test_engines_found_to_take_more_than_there_is_are_put_out_while_idle() -> None:
    tenants = [
        cpu("a", 6, AWAKE, last_used_s=1),
        cpu("b", 6, AWAKE, last_used_s=2),
        gpu("elsewhere", 1, ABSENT),
    ]
    assert steps(plan(tenants, ROOM, NOW_S)) == [("stop", "a")]
    used = [replace(one, in_use=1) for one in tenants]
    assert plan(used, ROOM, NOW_S) == Plan()


def test_a_site_that_cannot_fit_is_told_with_the_figures_of_what_is_lacking() -> None:
    both = [cpu("a", 6), gpu("b", 60)]
    assert misfit(both, {HOST: 10 * GIB, "gpu0": 80 * GIB}) is None
    why = misfit(both, {HOST: 10 * GIB, "gpu0": 40 * GIB})
    assert why == ("60.0 GiB of gpu0 needed, 40.0 GiB of gpu0 granted (b 60.0 GiB of gpu0)")
    assert in_words({}) == "nothing"


# Random histories


class History:
    """A machine on which things happen at random, and every promise is looked at each time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.capacity: Amounts = {HOST: 12 * GIB, "gpu0": 24 * GIB}
        count = self.random.randint(2, 6)
        self.tenants = {f"m{at}": self._tenant(f"m{at}") for at in range(count)}
        while misfit([one for one in self.tenants.values() if one.pinned], self.capacity):
            key = next(key for key, one in self.tenants.items() if one.pinned)
            self._set(key, pinned=False)
        self.loads = 0

    def _tenant(self, key: str) -> Tenant:
        rand = self.random
        host = {HOST: rand.randint(1, 10) * GIB}
        need = Need(host)
        if rand.random() < 0.5:
            size = rand.randint(2, 22)
            asleep = {HOST: rand.randint(1, 6) * GIB, "gpu0": rand.randint(0, 1) * GIB}
            need = Need({HOST: GIB, "gpu0": size * GIB}, asleep)
        return Tenant(
            key,
            need,
            pinned=rand.random() < 0.15,
            idle_sleep_s=rand.choice([None, None, 20.0]),
            load_s=rand.choice([0.0, 3.0, 30.0]),
        )

    def _set(self, key: str, **changes: Any) -> None:
        self.tenants[key] = replace(self.tenants[key], **changes)

    def happen(self, wanting: bool = True) -> None:
        """One thing: a request, an end of one, an end of what is under way, time."""
        rand = self.random
        key = rand.choice(list(self.tenants))
        one = self.tenants[key]
        self.now_s += rand.random() * 3
        if one.posture in (Posture.LOADING, Posture.WAKING):
            if rand.random() < 0.1:
                self._set(key, ailing=True)
            else:
                self._ready(key)
        elif one.posture is Posture.DOZING:
            self._set(key, posture=ASLEEP)
        elif one.posture is Posture.LEAVING:
            self._set(key, posture=ABSENT)
        elif one.in_use and (rand.random() < 0.6 or not wanting):
            self._set(key, in_use=one.in_use - 1, last_used_s=self.now_s)
        elif not wanting:
            return
        elif one.posture is AWAKE and not one.draining:
            self._set(key, in_use=one.in_use + 1)
        elif one.wanted_since_s is None:
            self._set(key, wanted_since_s=self.now_s)
        elif rand.random() < 0.1:
            self._set(key, wanted_since_s=None)

    def _ready(self, key: str) -> None:
        """Those who waited are let in at once."""
        waited = self.tenants[key].wanted_since_s is not None
        self._set(
            key, posture=AWAKE, ailing=False, in_use=int(waited), wanted_since_s=None,
            last_used_s=self.now_s, ready_since_s=self.now_s,
        )  # fmt: skip

    def step(self) -> Plan:
        made = plan(list(self.tenants.values()), self.capacity, self.now_s)
        before = dict(self.tenants)
        self._check(made, before)
        for action in made.actions:
            posture = {
                Verb.LOAD: Posture.LOADING,
                Verb.WAKE: Posture.WAKING,
                Verb.SLEEP: Posture.DOZING,
                Verb.STOP: Posture.LEAVING,
            }[action.verb]
            left = before[action.key].posture
            self._set(action.key, posture=posture, ailing=False, left=left)
            self.loads += action.verb in (Verb.LOAD, Verb.WAKE)
            assert self.total_fits(), f"{action} takes more than there is"
        for key, one in list(self.tenants.items()):
            self._set(key, draining=key in made.draining)
            if key in made.refused:
                self._set(key, wanted_since_s=None)
            elif one.posture is AWAKE and key not in made.draining and one.wanted_since_s:
                self._ready(key)
        return made

    def _check(self, made: Plan, before: dict[str, Tenant]) -> None:
        for action in made.actions:
            one = before[action.key]
            if action.verb in (Verb.SLEEP, Verb.STOP):
                assert not one.in_use, f"{action}, though it is in use"
                assert not one.pinned or action.made_for is None
                assert one.posture in (AWAKE, ASLEEP) or one.ailing
            else:
                assert one.posture is (ASLEEP if action.verb is Verb.WAKE else ABSENT)
                assert one.wanted_since_s is not None
        for key in made.draining:
            assert before[key].in_use
            assert not before[key].pinned
        for key, one in before.items():
            pinned = [each for each in before.values() if each.pinned and each.key != key]
            never = one.wanted_since_s is not None and misfit([one, *pinned], self.capacity)
            if one.posture in (ABSENT, ASLEEP):
                assert (key in made.refused) == bool(never)
        self._check_order(made, before)

    def _check_order(self, made: Plan, before: dict[str, Tenant]) -> None:
        """Of two equals that could both go, the one used last stays."""
        gone = [before[action.key] for action in made.actions if action.made_for is not None]
        for victim in gone:
            for other in before.values():
                equal = other.need == victim.need and other.posture is victim.posture
                free = not other.in_use and not other.pinned and other.wanted_since_s is None
                if equal and free and other.posture is AWAKE and other not in gone:
                    assert other.last_used_s >= victim.last_used_s

    def total_fits(self) -> bool:
        for pool, size in self.capacity.items():
            if sum(held(one).get(pool, 0) for one in self.tenants.values()) > size:
                return False
        return True


def each_seed(count: int) -> Callable[[Callable[[int], None]], Callable[[int], None]]:
    return pytest.mark.parametrize("seed", range(count))


@each_seed(60)
def test_the_promises_hold_in_any_history(seed: int) -> None:
    history = History(seed)
    for _ in range(250):
        history.happen()
        history.step()
        assert history.total_fits()


@each_seed(60)
def test_who_waits_is_loaded_in_the_end(seed: int) -> None:
    history = History(1000 + seed)
    for _ in range(80):
        history.happen()
        history.step()
    waiting = {key for key, one in history.tenants.items() if one.wanted_since_s is not None}
    for _ in range(600):
        history.now_s += 5
        history.happen(wanting=False)
        history.step()
        waiting -= {key for key, one in history.tenants.items() if one.wanted_since_s is None}
    assert not waiting


@each_seed(20)
def test_a_plan_that_has_been_carried_out_asks_for_nothing_more(seed: int) -> None:
    history = History(2000 + seed)
    for _ in range(100):
        history.happen()
        history.step()
        assert history.step().actions == (), "the same moment planned twice"
