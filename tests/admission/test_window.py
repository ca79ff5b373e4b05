from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from serve.admission.window import DAY_S, MINUTE_S, SLOTS, Window

STEPS = st.lists(st.tuples(st.floats(0, 40), st.integers(0, 12)), max_size=60)


@given(STEPS, st.integers(1, 20))
def test_no_minute_has_more_than_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    window = Window(MINUTE_S, limit)
    taken: deque[tuple[float, int]] = deque()
    now_s = 1000.0
    for pause_s, amount in steps:
        now_s += pause_s
        if window.room_in_s(amount, now_s) == 0:
            window.add(amount, now_s)
            taken.append((now_s, amount))
        assert sum(one for at_s, one in taken if at_s > now_s - MINUTE_S) <= limit
        assert window.left(now_s) + window.used(now_s) == limit


@given(STEPS, st.integers(5, 20), st.integers(1, 5))
def test_room_is_there_when_it_was_promised_and_not_much_before(
    steps: list[tuple[float, int]], limit: int, amount: int
) -> None:
    window = Window(MINUTE_S, limit)
    now_s = 5000.0
    for pause_s, some in steps:
        now_s += pause_s
        window.add(some, now_s)
        wait_s = window.room_in_s(amount, now_s)
        assert wait_s is not None
        assert 0 <= wait_s <= MINUTE_S + SLOTS[MINUTE_S]
    if wait := (window.room_in_s(amount, now_s) if steps else 0):
        assert window.left(now_s + wait * 0.5) <= limit
        assert window.room_in_s(amount, now_s + wait + 1e-6) == 0


def test_more_than_the_limit_is_never_allowed() -> None:
    assert Window(MINUTE_S, 5).room_in_s(6, 0.0) is None


def test_it_is_empty_when_it_says() -> None:
    window = Window(DAY_S, 10)
    assert window.empty_in_s(100.0) == 0
    window.add(3, 100.0)
    window.add(2, 7300.0)
    left_s = window.empty_in_s(7300.0)
    assert DAY_S <= left_s <= DAY_S + SLOTS[DAY_S]
    assert window.used(7300.0 + left_s - 1) == 2
    assert window.used(7300.0 + left_s) == 0


def test_corrections_count_where_the_request_did() -> None:
    window = Window(MINUTE_S, 100)
    slot = window.add(50, 10.0)
    window.add(10, 30.0)
    window.put(slot, -45)
    assert window.used(30.0) == 15
    window.put(slot, -45)  # never below nothing
    assert window.used(30.0) == 10
    window.put(slot, 7)
    assert window.used(71.9) == 10
    window.put(slot, 7)  # it has left the window, or leaves it with the next look
    assert window.used(72.0) == 10


def test_slots_of_before_come_in_their_order() -> None:
    window = Window(DAY_S, 1000)
    window.load([(8, 5), (3, 2), (6, 1)])
    assert window.used(9 * SLOTS[DAY_S]) == 8
    window.add(4, 7 * SLOTS[DAY_S])  # before the newest
    assert [slot for slot, _ in window._slots] == [3, 6, 7, 8]
