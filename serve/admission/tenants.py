"""What bounds each tenant now: the site's limits, and its own over them. Pure."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pydantic import ValidationError

from serve.core.errors import BudgetSpent
from serve.core.ledger import NANO, Period, Spending, Spent
from serve.settings.limits import NO_LIMITS, Budget, Limits, limits_from

log = logging.getLogger("inhouse.admission")

WARN_AGAIN_PART: Final = 0.05
"""Of a budget, spent since the last warning, before there is another."""


class OwnLimits(Protocol):
    """Who knows what single tenants have of limits; the same mapping until it changes."""

    def limits_of(self, tenant: str) -> Mapping[str, Any]: ...


class NoOwn:
    """No tenant has any of its own."""

    def limits_of(self, tenant: str) -> Mapping[str, Any]:
        del tenant
        return {}


class NothingSpent:
    """Where nobody keeps accounts."""

    def spent(self, tenant: str, period: Period) -> Spent:
        del tenant, period
        return Spent()


@dataclass
class TenantLimits:
    """Each tenant's limits, put together once and again when one of the two parts changes."""

    everyone: Limits = NO_LIMITS
    own: OwnLimits = field(default_factory=NoOwn)
    _known: dict[str, tuple[Mapping[str, Any], Limits, Limits]] = field(default_factory=dict)

    def of(self, tenant: str) -> Limits:
        """What bounds this tenant. Own limits that are none bound it as the last ones that were."""
        own = self.own.limits_of(tenant)
        known = self._known.get(tenant)
        if known is not None and known[0] is own and known[1] is self.everyone:
            return known[2]
        try:
            limits = limits_from(self.everyone, own)
        except ValidationError as error:
            log.error("limits of a tenant are not understood", extra={
                "tenant": tenant, "problem": str(error).splitlines()[0],
            })  # fmt: skip
            limits = known[2] if known is not None else self.everyone
        self._known[tenant] = (own, self.everyone, limits)
        return limits


@dataclass
class Budgets:
    """Refuses who has spent its budget, and warns, in the log, of who soon will have."""

    spending: Spending = field(default_factory=NothingSpent)
    _warned: dict[tuple[str, str], float] = field(default_factory=dict)

    def check(self, tenant: str, budget: Budget) -> None:
        """Raises BudgetSpent."""
        if not budget.given:
            return
        spent = self.spending.spent(tenant, budget.period)
        for name, used, soft, hard in (
            ("money", spent.cost_nano / NANO, budget.money_soft, budget.money_hard),
            ("tokens", float(spent.tokens), budget.tokens_soft, budget.tokens_hard),
        ):
            if hard is not None and used >= hard:
                raise BudgetSpent(
                    f"You exceeded your current quota: {used:,.6g} of {hard:,.6g} in {name} are "
                    f"spent in this calendar {budget.period} (UTC). Ask whoever runs this server "
                    "for more, or wait for the next."
                )
            if soft is not None and used >= soft:
                self._warn(tenant, budget.period, name, used, soft)

    def _warn(self, tenant: str, period: Period, name: str, used: float, soft: float) -> None:
        last = self._warned.get((tenant, name), -1.0)
        if last <= used < last + WARN_AGAIN_PART * soft:
            return
        self._warned[tenant, name] = used
        log.warning(
            "a tenant has spent more than its soft budget",
            extra={"tenant": tenant, "what": name, "used": used, "soft": soft, "period": period},
        )
