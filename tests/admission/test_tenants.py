import logging
from collections.abc import Mapping
from typing import Any

import pytest

from serve.admission.tenants import Budgets, TenantLimits
from serve.core.errors import BudgetSpent
from serve.core.ledger import NANO, Period, Spent
from serve.settings.limits import Budget, Limits


class Own:
    def __init__(self) -> None:
        self.by_tenant: dict[str, Mapping[str, Any]] = {}

    def limits_of(self, tenant: str) -> Mapping[str, Any]:
        return self.by_tenant.get(tenant, {})


class Book:
    def __init__(self) -> None:
        self.by_period: dict[str, Spent] = {}

    def spent(self, tenant: str, period: Period) -> Spent:
        return self.by_period.get(period, Spent())


def test_limits_follow_what_is_told() -> None:
    own = Own()
    limits = TenantLimits(Limits(weight=2), own)
    assert limits.of("a").weight == 2
    own.by_tenant["a"] = {"weight": 3}
    assert limits.of("a").weight == 3
    assert limits.of("a") is limits.of("a")
    limits.everyone = Limits(weight=5, choices=2)
    assert (limits.of("a").weight, limits.of("a").choices) == (3, 2)
    assert limits.of("b").weight == 5


def test_limits_that_are_none_leave_the_last_ones(caplog: pytest.LogCaptureFixture) -> None:
    own = Own()
    limits = TenantLimits(Limits(choices=9), own)
    own.by_tenant["a"] = {"choices": 2}
    assert limits.of("a").choices == 2
    own.by_tenant["a"] = {"choices": -2}
    assert limits.of("a").choices == 2
    own.by_tenant["b"] = {"choices": -2}
    assert limits.of("b").choices == 9
    assert len(caplog.records) == 2


def test_a_hard_budget_refuses_and_says_what_is_spent() -> None:
    book = Book()
    budgets = Budgets(book)
    budget = Budget(period="day", money_hard=1.5)
    book.by_period["day"] = Spent(10, 3 * NANO // 2 - 1)
    budgets.check("a", budget)
    book.by_period["day"] = Spent(10, 3 * NANO // 2)
    with pytest.raises(BudgetSpent, match=r"1\.5 of 1\.5 in money .* calendar day"):
        budgets.check("a", budget)
    with pytest.raises(BudgetSpent, match="in tokens"):
        budgets.check("a", Budget(period="day", tokens_hard=10))
    budgets.check("a", Budget(period="month", tokens_hard=10))


def test_a_soft_budget_warns_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    book = Book()
    budgets = Budgets(book)
    for tokens in (99, 100, 101, 104, 105, 106):
        book.by_period["month"] = Spent(tokens)
        budgets.check("a", Budget(tokens_soft=100))
    assert [record.__dict__["used"] for record in caplog.records] == [100, 105]
    book.by_period["month"] = Spent(100)  # the next month
    budgets.check("a", Budget(tokens_soft=100))
    assert len(caplog.records) == 3
