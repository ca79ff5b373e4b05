"""Days and months in UTC, and clocks that are set: no period opens anew."""

import datetime

import pytest

from serve.core.ledger import DAY_S, Closed, Settled, Spent
from serve.core.usage import Usage
from serve.metering.spending import SpendingByDay, first_day
from tests.metering.books import SetClock, opened


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


def record(received_s: float, tokens: int) -> Settled:
    return Settled(1, opened("r", received_s=received_s), Closed("ok", "m", usage=Usage(tokens)), 2)


@pytest.mark.parametrize(
    ("now", "period", "first"),
    [
        ("2026-03-01T00:00:00", "month", "2026-03-01"),
        ("2026-02-28T23:59:59", "month", "2026-02-01"),
        ("2028-02-29T12:00:00", "day", "2028-02-29"),
        ("2026-12-31T23:59:59", "month", "2026-12-01"),
    ],
)
def test_periods_begin_at_midnight_in_utc(now: str, period: str, first: str) -> None:
    day = first_day(at(now), period)  # type: ignore[arg-type]
    assert day == at(first) / DAY_S


def test_a_new_day_begins_with_nothing_spent() -> None:
    clock = SetClock(wall=at("2026-05-10T23:59:00"))
    spending = SpendingByDay(clock)
    spending.settle(record(clock.wall, 100))
    assert spending.spent("acme", "day") == Spent(100, 2)
    clock.wall = at("2026-05-11T00:00:01")
    assert spending.spent("acme", "day") == Spent()
    assert spending.spent("acme", "month") == Spent(100, 2)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S, 40 * DAY_S, -20 * DAY_S])
def test_a_clock_that_jumps_and_comes_back_opens_nothing(jump_s: float) -> None:
    clock = SetClock(wall=at("2026-05-10T12:00:00"))
    spending = SpendingByDay(clock)
    spending.settle(record(clock.wall, 100))
    clock.wall += jump_s
    spending.settle(record(clock.wall, 10))
    while_set = spending.spent("acme", "day")
    clock.wall -= jump_s
    assert spending.spent("acme", "day").tokens >= 100
    assert while_set.tokens == (10 if jump_s > 0 else 110)


def test_what_the_database_has_is_not_counted_twice() -> None:
    clock = SetClock(wall=at("2026-05-10T12:00:00"))
    spending = SpendingByDay(clock)
    one = record(clock.wall, 100)
    spending.settle(one)
    spending.keep([one])
    assert spending.spent("acme", "day") == Spent(100, 2)
    spending.learn([("acme", one.day, 130, 3)])
    assert spending.spent("acme", "day") == Spent(130, 3)


def test_the_month_before_is_known_too() -> None:
    spending = SpendingByDay(SetClock(wall=at("2026-03-15T00:00:00")))
    assert spending.since_day() == at("2026-02-01") / DAY_S
