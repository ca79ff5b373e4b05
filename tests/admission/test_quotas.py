import pytest

from serve.admission.estimate import Estimate
from serve.admission.quotas import Quotas
from serve.core.errors import RateLimited, TokensLimited
from serve.core.quota import Slot
from serve.core.usage import Usage
from serve.settings.limits import Bounds, Limits

ASKED = Estimate(input=100, output_most=50, output_likely=20)


class Clock:
    def __init__(self) -> None:
        self.s = 1_000_000.0

    def __call__(self) -> float:
        return self.s


def shown(found: tuple[int, int, float] | None) -> tuple[int, int]:
    """The limit and what is left of it."""
    assert found is not None
    return found[:2]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_requests_a_minute(clock: Clock) -> None:
    quotas, limits = Quotas(clock), Limits(requests_per_minute=2)
    for _ in range(2):
        quotas.settle(quotas.reserve("a", limits, "m", ASKED), Usage(5, 5))
    with pytest.raises(RateLimited, match="requests_per_minute") as caught:
        quotas.reserve("a", limits, "m", ASKED)
    assert not isinstance(caught.value, TokensLimited)
    wait_s = caught.value.retry_after_s
    assert wait_s is not None
    assert 60 <= wait_s <= 61
    quotas.reserve("b", limits, "m", ASKED)  # another tenant is not concerned
    clock.s += wait_s
    quotas.reserve("a", limits, "m", ASKED)


def test_tokens_are_reserved_before_and_corrected_after(clock: Clock) -> None:
    quotas, limits = Quotas(clock), Limits(output_tokens_per_minute=100)
    first = quotas.reserve("a", limits, "m", ASKED)
    second = quotas.reserve("a", limits, "m", ASKED)
    with pytest.raises(TokensLimited, match="output_tokens_per_minute"):
        quotas.reserve("a", limits, "m", ASKED)
    quotas.settle(first, Usage(100, 10))
    tokens = quotas.standing("a", limits, "m").tokens
    assert shown(tokens) == (100, 40)
    assert tokens is not None
    assert 60 <= tokens[2] <= 61
    with pytest.raises(TokensLimited):
        quotas.reserve("a", limits, "m", ASKED)
    quotas.settle(second, Usage(100, 50))
    assert shown(quotas.standing("a", limits, "m").tokens) == (100, 40)


def test_who_leaves_in_the_middle_keeps_what_was_reserved(clock: Clock) -> None:
    quotas, limits = Quotas(clock), Limits(output_tokens_per_minute=100)
    quotas.settle(quotas.reserve("a", limits, "m", ASKED), None)
    assert shown(quotas.standing("a", limits, "m").tokens)[1] == 50


def test_what_is_sent_away_counts_for_nothing(clock: Clock) -> None:
    quotas = Quotas(clock)
    limits = Limits(requests_per_day=1, input_tokens_per_day=100, concurrent_requests=1)
    quotas.cancel(quotas.reserve("a", limits, "m", ASKED))
    standing = quotas.standing("a", limits, "m")
    assert shown(standing.requests)[1] == 1
    assert shown(standing.tokens)[1] == 100
    assert quotas.take_changes() == {}
    quotas.reserve("a", limits, "m", ASKED)


def test_a_refusal_takes_nothing_of_other_windows(clock: Clock) -> None:
    quotas = Quotas(clock)
    limits = Limits(requests_per_minute=5, models={"m": Bounds(input_tokens_per_minute=150)})
    quotas.reserve("a", limits, "m", ASKED)
    with pytest.raises(TokensLimited, match="for m"):
        quotas.reserve("a", limits, "m", ASKED)
    assert shown(quotas.standing("a", limits, "other").requests)[1] == 4
    quotas.reserve("a", limits, "other", ASKED)


def test_what_can_never_fit_is_told_so(clock: Clock) -> None:
    quotas, limits = Quotas(clock), Limits(input_tokens_per_minute=99)
    with pytest.raises(TokensLimited, match="too large") as caught:
        quotas.reserve("a", limits, "m", ASKED)
    assert caught.value.retry_after_s is None


def test_requests_in_hand(clock: Clock) -> None:
    quotas, limits = Quotas(clock), Limits(concurrent_requests=2)
    held = [quotas.reserve("a", limits, "m", ASKED) for _ in range(2)]
    with pytest.raises(RateLimited, match="concurrent_requests"):
        quotas.reserve("a", limits, "m", ASKED)
    quotas.settle(held[0], Usage(1, 1))
    quotas.reserve("a", limits, "m", ASKED)


def test_no_header_where_there_is_no_limit(clock: Clock) -> None:
    quotas = Quotas(clock)
    standing = quotas.standing("a", Limits(), "m")
    assert standing.requests is None
    assert standing.tokens is None


def test_the_tightest_bound_is_shown(clock: Clock) -> None:
    quotas = Quotas(clock)
    limits = Limits(requests_per_minute=100, requests_per_day=4)
    quotas.reserve("a", limits, "m", ASKED)
    assert shown(quotas.standing("a", limits, "m").requests) == (4, 3)


def test_a_day_goes_on_in_the_next_process(clock: Clock) -> None:
    limits = Limits(requests_per_day=2, output_tokens_per_day=200)
    first = Quotas(clock)
    first.settle(first.reserve("a", limits, "m", ASKED), Usage(100, 30))
    changes = first.take_changes()
    slot = int(clock.s // 300)
    assert changes == {
        Slot("a", "", "requests", slot): 1,
        Slot("a", "", "output_tokens", slot): 30,
    }
    clock.s += 3600
    second = Quotas(clock)
    second.load(changes.items())
    second.reserve("a", limits, "m", ASKED)
    with pytest.raises(RateLimited, match="requests_per_day") as caught:
        second.reserve("a", limits, "m", ASKED)
    assert caught.value.retry_after_s == pytest.approx(86_400 - 3600, abs=600)


def test_changes_that_could_not_be_kept_come_again(clock: Clock) -> None:
    quotas, limits = Quotas(clock), Limits(requests_per_day=9)
    quotas.reserve("a", limits, "m", ASKED)
    changes = quotas.take_changes()
    quotas.give_back(changes)
    quotas.reserve("a", limits, "m", ASKED)
    assert list(quotas.take_changes().values()) == [2]


def test_a_changed_limit_counts_at_once(clock: Clock) -> None:
    quotas = Quotas(clock)
    quotas.reserve("a", Limits(requests_per_minute=1), "m", ASKED)
    with pytest.raises(RateLimited):
        quotas.reserve("a", Limits(requests_per_minute=1), "m", ASKED)
    quotas.reserve("a", Limits(requests_per_minute=2), "m", ASKED)
