"""Who runs, who waits and who is sent away, before the engines of one model."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.admission.line import Bounds, Capacity, Flow, Line, Place
from serve.core.errors import Shed

A, B, C = Flow("a"), Flow("b"), Flow("c")


class Rig:
    """A line, and what its requests have been told."""

    def __init__(
        self,
        requests: int = 8,
        spare: int = 0,
        *,
        bound: int = 1000,
        tokens: int = 10**9,
        fair: bool = True,
    ) -> None:
        self.now_s = 0.0
        self.line = Line("m", Bounds(bound, tokens), lambda: self.now_s, fair=fair)
        self.line.changed(Capacity(requests, spare))
        self.told: list[tuple[str, str]] = []
        self.places: dict[str, Place] = {}

    def come(
        self, name: str, flow: Flow, cost: float = 10, weight: float = 1, *, ahead: bool = False
    ) -> bool:
        """Whether it runs at once."""

        def tell(error: Shed | None) -> None:
            self.told.append((name, "turn" if error is None else "shed"))

        place = self.line.enter(flow, weight, cost, tell, ahead=ahead)
        self.places[name] = place
        return place.running

    def leave(self, name: str, took: float | None = None) -> None:
        self.line.leave(self.places.pop(name), took)


def test_an_engine_that_is_free_waits_for_nobody() -> None:
    rig = Rig(6, spare=2)
    assert [rig.come(f"a{number}", A) for number in range(5)] == [True] * 4 + [False]
    assert (rig.line.running, rig.line.waiting) == (4, 1)
    assert rig.told == []


def test_a_place_is_kept_for_who_has_less_than_its_share() -> None:
    rig = Rig(6, spare=2)
    for number in range(20):
        rig.come(f"a{number}", A)
    assert rig.come("b0", B)
    assert rig.come("b1", B)
    assert not rig.come("b2", B)  # no place is left at all
    assert rig.line.running == 6


def test_turns_go_by_shares_and_not_by_numbers() -> None:
    rig = Rig(1)
    rig.come("first", C)
    for number in range(50):
        rig.come(f"a{number}", A)
    rig.come("b0", B)
    rig.leave("first")
    rig.leave("a0")
    rig.leave("b0")
    assert [name for name, _ in rig.told] == ["a0", "b0", "a1"]


def test_flex_gets_what_others_leave() -> None:
    rig = Rig(1)
    rig.come("first", C)
    for number in range(3):
        rig.come(f"flex{number}", Flow("a", flex=True))
        rig.come(f"b{number}", B)
    told: list[str] = []
    rig.leave("first")
    while rig.told and len(told) < 6:
        name, _ = rig.told.pop(0)
        told.append(name)
        rig.leave(name)
    assert told[0] == "flex0"  # nobody starts behind
    assert told[1:4] == ["b0", "b1", "b2"]


def test_priority_goes_before_its_tenants_others() -> None:
    rig = Rig(1)
    rig.come("first", C)
    rig.come("a0", A)
    rig.come("a1", A, ahead=True)
    rig.leave("first")
    assert rig.told == [("a1", "turn")]
    assert rig.line.classes() == {"priority": 0, "default": 1, "flex": 0}


def test_tokens_are_counted_where_the_cache_is_known() -> None:
    rig = Rig(8)
    rig.line.changed(Capacity(8, cache_tokens=100))
    assert rig.come("a0", A, cost=60)
    assert not rig.come("a1", A, cost=60)
    assert not rig.come("a2", A, cost=10)  # none goes past one that is larger
    rig.leave("a0")
    assert [name for name, _ in rig.told] == ["a1", "a2"]


def test_one_that_is_larger_than_the_cache_runs_alone() -> None:
    rig = Rig(8)
    rig.line.changed(Capacity(8, cache_tokens=100))
    assert rig.come("a0", A, cost=10)
    assert not rig.come("a1", A, cost=500)
    rig.leave("a0")
    assert rig.told == [("a1", "turn")]


def test_who_leaves_the_line_frees_its_place() -> None:
    rig = Rig(1, bound=2)
    rig.come("a0", A)
    rig.come("a1", A)
    with pytest.raises(Shed):
        rig.come("a2", A)
    rig.leave("a1")
    assert not rig.come("a2", A)
    rig.leave("a0")
    assert rig.told == [("a2", "turn")]


def test_a_full_line_sends_away_who_has_the_most() -> None:
    rig = Rig(1, bound=6)
    for number in range(6):
        rig.come(f"a{number}", A)
    with pytest.raises(Shed, match=r"limits\.queue_requests") as refused:
        rig.come("a6", A)
    assert refused.value.retry_after_s >= 1
    assert not rig.come("b0", B)
    assert rig.told == [("a5", "shed")]
    assert rig.line.waiting == 5
    rig.leave("a5")  # it learns that it has been sent away, and leaves: nothing changes
    assert (rig.line.running, rig.line.waiting) == (1, 5)


def test_a_full_line_looks_at_weights() -> None:
    rig = Rig(1, bound=5)
    for number in range(4):
        rig.come(f"a{number}", A, weight=8)
    rig.come("b0", B, weight=1)
    with pytest.raises(Shed):
        rig.come("b1", B, weight=1)
    assert not rig.come("c0", C, weight=8)
    assert rig.told == [("b0", "shed")]


def test_tokens_that_wait_are_bounded() -> None:
    rig = Rig(1, tokens=100)
    rig.come("a0", A, cost=500)
    rig.come("a1", A, cost=90)
    with pytest.raises(Shed, match=r"limits\.queue_tokens"):
        rig.come("a2", A, cost=20)
    assert rig.line.waiting == 1


def test_by_arrival_all_goes_to_the_engine() -> None:
    rig = Rig(2, fair=False)
    assert all(rig.come(f"{flow.tenant}{number}", flow) for flow in (A, B) for number in range(9))


def test_how_long_it_may_take_is_told_by_how_fast_others_end() -> None:
    rig = Rig(1)
    for number in range(200):
        rig.come(f"a{number}", A)
    for number in range(100):
        rig.now_s += 2
        rig.leave(f"a{number}")
    assert 50 <= rig.line.clears_in_s <= 60
    assert Rig(1).line.clears_in_s == 1


STEP = st.one_of(
    st.tuples(
        st.just("come"), st.sampled_from([A, B, C, Flow("a", flex=True)]), st.integers(1, 60)
    ),
    st.tuples(st.just("leave"), st.integers(0, 30), st.integers(0, 100)),
)


@given(st.lists(STEP, max_size=120), st.integers(1, 9))
def test_nothing_is_lost_and_nobody_waits_for_a_free_engine(
    steps: list[tuple[str, object, int]], places: int
) -> None:
    rig = Rig(places, bound=20, tokens=300)
    rig.line.changed(Capacity(places, places // 3, cache_tokens=120))
    number = 0
    for what, which, amount in steps:
        if what == "come":
            assert isinstance(which, Flow)
            number += 1
            with contextlib.suppress(Shed):
                rig.come(str(number), which, amount)
        elif rig.places:
            names = list(rig.places)
            rig.leave(names[int(str(which)) % len(names)], amount)
        for name, how in rig.told:
            if how == "shed":
                rig.places.pop(name, None)
        rig.told.clear()
        running = sum(place.running for place in rig.places.values())
        assert rig.line.running == running <= places
        assert rig.line.waiting == len(rig.places) - running <= 20
        assert running or not rig.places
    for name in list(rig.places):
        if name in rig.places:
            rig.leave(name)
    assert (rig.line.running, rig.line.waiting) == (0, 0)
    assert rig.line._flows == {}
