"""What each tenant has used, day by day, for budgets."""

import datetime
from collections.abc import Iterable

from serve.core.clock import Clock
from serve.core.ledger import DAY_S, Period, Settled, Spent

Total = tuple[str, int, int, int]
"""Tenant, day since 1970-01-01, tokens, billionths of the currency."""


class SpendingByDay:
    """Sums of the records that the database has, and of those on their way there.

    See `serve.core.ledger.Spending`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, dict[int, list[int]]] = {}
        self._coming: dict[str, dict[int, list[int]]] = {}

    def spent(self, tenant: str, period: Period) -> Spent:
        since = first_day(self._clock.wall_s(), period)
        tokens = cost_nano = 0
        for sums in (self._kept, self._coming):
            for day, (some, cost) in sums.get(tenant, {}).items():
                if day >= since:
                    tokens += some
                    cost_nano += cost
        return Spent(tokens, cost_nano)

    def settle(self, record: Settled) -> None:
        """One more request has been settled."""
        _add(self._coming, [_of(record)])

    def keep(self, records: Iterable[Settled]) -> None:
        """The database has these now."""
        totals = [_of(one) for one in records]
        _add(self._coming, [(tenant, day, -some, -cost) for tenant, day, some, cost in totals])
        _add(self._kept, totals)
        for tenant, days in list(self._coming.items()):
            self._coming[tenant] = {day: sums for day, sums in days.items() if any(sums)}
            if not self._coming[tenant]:
                del self._coming[tenant]

    def learn(self, totals: Iterable[Total]) -> None:
        """The database's own sums, in which other servers have a part."""
        self._kept = {}
        _add(self._kept, totals)

    def since_day(self) -> int:
        """The first day that sums are needed of: a clock may be set back into the last month."""
        now_s = self._clock.wall_s()
        this_month_s = first_day(now_s, "month") * DAY_S
        return first_day(this_month_s - DAY_S, "month")


def first_day(now_s: float, period: Period) -> int:
    """Days since 1970-01-01 at which the UTC day or month of a Unix time began."""
    day = int(now_s // DAY_S)
    if period == "day":
        return day
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
    return day - date.day + 1


def _of(record: Settled) -> Total:
    usage = record.closed.usage
    tokens = usage.prompt + usage.completion
    return record.opened.tenant, record.day, tokens, record.cost_nano or 0


def _add(sums: dict[str, dict[int, list[int]]], totals: Iterable[Total]) -> None:
    for tenant, day, tokens, cost_nano in totals:
        found = sums.setdefault(tenant, {})
        at = found.setdefault(day, [0, 0])
        at[0] += tokens
        at[1] += cost_nano
