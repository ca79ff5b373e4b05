from typing import Any

import pytest
from pydantic import ValidationError

from serve.core.grant import Grant
from serve.settings.tenants import Scopes, TenantTerms


def test_scopes_become_what_requests_are_held_against() -> None:
    assert Scopes().grant == Grant()
    said = Scopes.model_validate({"models": ["a*"], "endpoints": ["chat"], "admin": True})
    assert said.grant == Grant(("a*",), frozenset({"chat"}), admin=True)


@pytest.mark.parametrize(
    "said",
    [
        {"models": []},
        {"models": ["a b"]},
        {"models": ["a" * 300]},
        {"models": "a"},
        {"endpoints": []},
        {"endpoints": ["chats"]},
        {"model": ["a"]},
    ],
)
def test_scopes_that_mean_nothing_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Scopes.model_validate(said)


def test_what_is_kept_of_terms_is_what_was_said() -> None:
    terms = TenantTerms.model_validate(
        {"limits": {"requests_per_day": None, "budget": {"money_hard": 3}}, "settings": {}}
    )
    assert terms.kept() == ({"requests_per_day": None, "budget": {"money_hard": 3}}, {})


@pytest.mark.parametrize(
    "said",
    [
        {"limits": {"requests_per_minute": -1}},
        {"limits": {"requests_per_minute": 10**16}},
        {"limits": {"weight": float("nan")}},
        {"limits": {"budget": {"money_soft": 2, "money_hard": 1}}},
        {"settings": {"cache_group": "a b"}},
        {"settings": {"cache_groups": "a"}},
    ],
)
def test_terms_that_are_absurd_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TenantTerms.model_validate(said)
