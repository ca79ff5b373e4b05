import math
from typing import Any

import pytest
from pydantic import ValidationError

from serve.settings.limits import Bounds, Budget, Limits, limits_from


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"input_tokens_per_day": 10**30}, "input_tokens_per_day"),
        ({"output_tokens_per_minute": 1.5}, "output_tokens_per_minute"),
        ({"output_tokens_per_minute": "many"}, "output_tokens_per_minute"),
        ({"concurrent_requests": -3}, "concurrent_requests"),
        ({"context_tokens": 1}, "context_tokens"),
        ({"choices": 0}, "choices"),
        ({"weight": 0}, "weight"),
        ({"weight": -1}, "weight"),
        ({"weight": math.nan}, "weight"),
        ({"weight": math.inf}, "weight"),
        ({"weight": 1e9}, "weight"),
        ({"tiers": ["gold"]}, "tiers"),
        ({"models": {"../x": {}}}, "models"),
        ({"models": {"m": {"weight": 2}}}, "weight"),
        ({"budget": {"money_hard": -1}}, "money_hard"),
        ({"budget": {"money_hard": math.inf}}, "money_hard"),
        ({"budget": {"period": "year"}}, "period"),
        ({"requests": 5}, "requests"),
    ],
)
def test_negative_and_absurd_limits_are_refused_by_name(wrong: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Limits.model_validate(wrong)
    assert any(place in map(str, one["loc"]) for one in caught.value.errors())


def test_a_soft_budget_above_the_hard_one_would_never_warn() -> None:
    with pytest.raises(ValidationError, match="tokens_soft"):
        Budget(tokens_soft=11, tokens_hard=10)
    assert Budget(tokens_soft=10, tokens_hard=10).given
    assert not Budget().given


def test_a_tenant_s_own_go_before_the_site_s_field_by_field() -> None:
    everyone = Limits.model_validate(
        {
            "requests_per_minute": 10, "weight": 2, "budget": {"tokens_hard": 5},
            "models": {"m": {"choices": 2, "context_tokens": 64}},
        }
    )  # fmt: skip
    own = {"requests_per_minute": 20, "models": {"m": {"choices": 4}}, "budget": {"period": "day"}}
    limits = limits_from(everyone, own)
    assert (limits.requests_per_minute, limits.weight) == (20, 2)
    assert limits.models == {"m": Bounds(choices=4, context_tokens=64)}
    assert limits.budget == Budget(period="day", tokens_hard=5)
    assert limits_from(everyone, {}) is everyone


def test_null_lifts_a_limit_of_the_site_s() -> None:
    limits = limits_from(Limits(requests_per_day=5), {"requests_per_day": None})
    assert limits.requests_per_day is None
