"""Which replica a prompt goes to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.engines.affinity import (
    MEMBERS_MAX,
    PIECE_BYTES,
    TRAIL_MAX_BYTES,
    WORTH,
    Affinity,
    Trail,
    load_bound,
    trail_of,
)

NAMES = [f"m#{number}" for number in range(1, 9)]
starts = st.integers(0, 2**64 - 1)
loads = st.dictionaries(st.integers(0, 7), st.integers(0, 200), min_size=1)


def chat(*texts: str, system: str = "be kind", **fields: Any) -> dict[str, Any]:
    """A conversation whose turns are these."""
    roles = ("user", "assistant")
    said = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return {"model": "m", "messages": [{"role": "system", "content": system}, *said]} | fields


LONG = "x" * 4 * PIECE_BYTES


def idle(count: int) -> dict[int, int]:
    return dict.fromkeys(range(count), 0)


def none_remembered(start: int) -> Trail:
    return Trail(start, ())


# Trails


def test_a_conversation_keeps_its_start_and_all_its_pieces() -> None:
    first = trail_of(chat("a" * 2000))
    second = trail_of(chat("a" * 2000, "b" * 3000, "c"))
    assert second.start == first.start
    assert second.pieces[: len(first.pieces)] == first.pieces
    assert len(second.pieces) > len(first.pieces)


@pytest.mark.parametrize(
    "other",
    [
        chat(LONG, system="be brief"),
        chat("ho" + LONG),
        chat(LONG, tools=[{"type": "function", "function": {"name": "f"}}]),
        chat(LONG, cache_salt="theirs"),
        chat(LONG) | {"model": "m:adapter"},
    ],
)
def test_what_an_engine_caches_apart_is_told_apart(other: dict[str, Any]) -> None:
    one, two = trail_of(chat(LONG)), trail_of(other)
    assert one.start != two.start
    assert one.pieces
    assert not set(one.pieces) & set(two.pieces)


def test_sampling_does_not_tell_apart() -> None:
    assert trail_of(chat("hi", temperature=1, seed=3)) == trail_of(chat("hi"))


@pytest.mark.parametrize("field", ["prompt", "input"])
def test_prompts_without_messages(field: str) -> None:
    short, long = (trail_of({"model": "m", field: "y" * size}) for size in (5000, 9000))
    assert long.pieces[: len(short.pieces)] == short.pieces
    tokens = trail_of({"model": "m", field: list(range(1000))})
    assert tokens.pieces
    assert not set(tokens.pieces) & set(long.pieces)


def test_messages_without_a_user_are_all_start() -> None:
    body = {"model": "m", "messages": [{"role": "system", "content": "s"}]}
    assert trail_of(body).start != trail_of(chat("hi", system="s")).start


@given(st.lists(st.text(max_size=3000), min_size=1, max_size=5), st.text(max_size=2000))
def test_a_longer_conversation_has_every_piece_of_the_shorter(texts: list[str], more: str) -> None:
    before, after = trail_of(chat(*texts)), trail_of(chat(*texts, more))
    assert after.pieces[: len(before.pieces)] == before.pieces
    assert after.start == before.start


def test_the_longest_prompts_are_looked_at_up_to_a_bound() -> None:
    bound, beyond = (trail_of(chat("z" * size)) for size in (TRAIL_MAX_BYTES, TRAIL_MAX_BYTES * 4))
    assert bound.pieces == beyond.pieces
    assert len(bound.pieces) < 128, "what is remembered of one prompt is bounded too"


# Rendezvous


@given(starts, st.integers(2, 8), st.data())
def test_one_that_leaves_moves_only_its_own(start: int, count: int, data: st.DataObject) -> None:
    chooser = Affinity(NAMES)
    before = chooser.choose(none_remembered(start), idle(count))
    gone = data.draw(st.integers(0, count - 1))
    after = chooser.choose(none_remembered(start), {k: 0 for k in range(count) if k != gone})
    assert before in (after, gone)


@given(starts, st.integers(1, 7))
def test_one_that_comes_takes_only_for_itself(start: int, count: int) -> None:
    chooser = Affinity(NAMES)
    before = chooser.choose(none_remembered(start), idle(count))
    assert chooser.choose(none_remembered(start), idle(count + 1)) in (before, count)


@given(starts)
def test_every_gateway_draws_alike_in_whatever_order_it_lists_them(start: int) -> None:
    one, other = Affinity(NAMES), Affinity(NAMES[::-1])
    chosen = NAMES[one.choose(none_remembered(start), idle(8))]
    assert NAMES[::-1][other.choose(none_remembered(start), idle(8))] == chosen


def test_new_conversations_spread_evenly() -> None:
    chooser, count = Affinity(NAMES), [0] * 8
    for number in range(4000):
        count[chooser.choose(trail_of(chat(f"question {number}")), idle(8))] += 1
    assert max(count) < 1.25 * 500
    assert min(count) > 0.75 * 500


# The bound


@given(starts, loads)
def test_the_bound_is_never_exceeded(start: int, loads: dict[int, int]) -> None:
    chooser = Affinity(NAMES)
    trail = trail_of(chat(f"{start}" * 200))
    for member in loads:
        chooser.remember(trail, member)
    chosen = chooser.choose(trail, loads)
    assert loads[chosen] + 1 <= load_bound(sum(loads.values()) + 1, len(loads))


@given(st.lists(starts, min_size=1, max_size=100), st.integers(1, 8))
def test_a_burst_of_one_conversation_is_spread(seeds: list[int], count: int) -> None:
    chooser, hands = Affinity(NAMES), idle(count)
    trail = trail_of(chat("the same for all " * 100))
    for number, _ in enumerate(seeds, 1):
        chosen = chooser.choose(trail, hands)
        chooser.remember(trail, chosen)
        hands[chosen] += 1
        assert hands[chosen] <= load_bound(number, count)


@given(st.integers(1, 10_000), st.integers(1, MEMBERS_MAX))
def test_the_bound_has_room_for_all(requests: int, members: int) -> None:
    assert load_bound(requests, members) * members >= requests


# What is remembered


@given(st.lists(st.text(min_size=1, max_size=400), min_size=3, max_size=12), st.integers(2, 8))
def test_a_conversation_returns_to_its_replica(turns: list[str], count: int) -> None:
    chooser = Affinity(NAMES)
    # It begins where its draw does not lead: that one is full.
    first = trail_of(chat("a long beginning " * 100))
    drawn = chooser.choose(first, idle(count))
    other = chooser.choose(first, idle(count) | {drawn: 100})
    assert other != drawn
    chooser.remember(first, other)
    said = ["a long beginning " * 100]
    for turn in turns:
        said.append(turn)
        trail = trail_of(chat(*said))
        chosen = chooser.choose(trail, idle(count))
        assert chosen == other
        chooser.remember(trail, chosen)


def test_one_that_has_lost_its_cache_is_not_sought_for_it() -> None:
    chooser = Affinity(NAMES[:2])
    trail = trail_of(chat("again and again " * 100))
    drawn = chooser.choose(trail, idle(2))
    chooser.remember(trail, 1 - drawn)
    assert chooser.choose(trail, idle(2)) == 1 - drawn
    chooser.forget(1 - drawn)
    assert chooser.choose(trail, idle(2)) == drawn
    assert len(chooser) == 0


def test_among_those_that_have_it_the_draw_decides() -> None:
    chooser = Affinity(NAMES[:3])
    trail = trail_of(chat("shared " * 500))
    order = []
    hands = idle(3)
    while hands:
        order.append(chooser.choose(trail, hands))
        del hands[order[-1]]
    for member in order[1:]:
        chooser.remember(trail, member)
    assert chooser.choose(trail, idle(3)) == order[1]


@pytest.mark.parametrize("system_bytes", [4_000, 60_000, 200_000])
def test_a_shared_system_prompt_decides_only_where_it_is_the_larger_part(system_bytes: int) -> None:
    system = "s" * system_bytes
    chooser = Affinity(NAMES[:4])
    chooser.remember(trail_of(chat("the first", system=system)), 0)
    small = [trail_of(chat(f"{n} " + "q" * 200, system=system)) for n in range(40)]
    assert {chooser.choose(one, idle(4)) for one in small} == {0}
    own = "q" * int(system_bytes * 1.5 / WORTH)
    large = [trail_of(chat(f"{n} " + own, system=system)) for n in range(40)]
    assert {chooser.choose(one, idle(4)) for one in large} == {0, 1, 2, 3}


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    chooser = Affinity(NAMES[:2], remembered_pieces_max=20)
    trails = [trail_of(chat(f"{n} " * 1000)) for n in range(30)]
    for trail in trails:
        chooser.remember(trail, 1)
        assert len(chooser) <= 20
    assert chooser.choose(trails[-1], idle(2)) == 1
    drawn = {chooser.choose(trail, idle(2)) for trail in trails[:20]}
    assert drawn == {0, 1}


@pytest.mark.parametrize("names", [[], ["a", "a"], [f"{n}" for n in range(MEMBERS_MAX + 1)]])
def test_members_are_told_apart(names: list[str]) -> None:
    with pytest.raises(ValueError, match="different names"):
        Affinity(names)
