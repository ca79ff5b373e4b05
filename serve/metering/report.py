"""What was used, summed up: by tenant, model, day, and what it cost, saved and would have cost."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from serve.core.ledger import NANO
from serve.core.usage import Usage
from serve.settings.hosted import Hosted
from serve.settings.prices import Pricing

JSON = dict[str, Any]
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(slots=True)
class Sums:
    """Counts of one line. `saved_nano`: what its cached tokens would have cost more as others;
    `unpriced`: requests for which no price was in force."""

    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    cost_nano: int = 0
    saved_nano: int = 0
    unpriced: int = 0

    def add(self, other: "Sums") -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def usage(self) -> Usage:
        return Usage(self.prompt, self.completion, self.cached, self.reasoning)

    @property
    def hit_ratio(self) -> float | None:
        """The part of prompts that was in the cache; None without prompts."""
        return self.cached / self.prompt if self.prompt else None


@dataclass(frozen=True, slots=True)
class Report:
    """Lines in the order of their names. `currency` is of costs and savings, None where the site
    has no prices."""

    by: tuple[str, ...]
    first: datetime.date
    last: datetime.date
    lines: tuple[tuple[tuple[str, ...], Sums], ...]
    currency: str | None
    hosted: Hosted | None
    total: Sums = field(default_factory=Sums)

    def elsewhere(self, sums: Sums) -> dict[str, Decimal]:
        """What the same tokens cost by the hosted table, for each of its models."""
        if self.hosted is None:
            return {}
        usage = sums.usage
        return {name: money(price.cost_nano(usage)) for name, price in self.hosted.models.items()}


def needed(by: Sequence[str]) -> tuple[str, ...]:
    """What records must be grouped by for a report by these: prices differ by model and day."""
    return tuple(dict.fromkeys((*by, "model", "day")))


def report_of(
    rows: Iterable[Mapping[str, Any]],
    by: Sequence[str],
    days: tuple[int, int],
    pricing: Pricing,
    hosted: Hosted | None = None,
) -> Report:
    """The report of records that were grouped by what is `needed`."""
    lines: dict[tuple[Any, ...], Sums] = {}
    total = Sums()
    for row in rows:
        sums = _sums(row, pricing)
        lines.setdefault(tuple(row[name] for name in by), Sums()).add(sums)
        total.add(sums)
    return Report(
        tuple(by),
        date_of(days[0]),
        date_of(days[1]),
        tuple((_named(by, key), lines[key]) for key in sorted(lines)),
        pricing.prices.currency if pricing.prices.models else None,
        hosted,
        total,
    )


def date_of(day: int) -> datetime.date:
    """The date of a day that is counted from 1970-01-01."""
    return _EPOCH + datetime.timedelta(days=day)


def day_of(date: datetime.date) -> int:
    """Days since 1970-01-01."""
    return (date - _EPOCH).days


def money(nano: int) -> Decimal:
    """Billionths as an amount, exact."""
    return Decimal(nano) / NANO


def _sums(row: Mapping[str, Any], pricing: Pricing) -> Sums:
    counts = Sums(
        row["requests"], row["prompt"], row["cached"], row["completion"], row["reasoning"],
        row["cost_nano"], 0, row["unpriced"],
    )  # fmt: skip
    price = pricing.on(row["model"], row["day"])
    if price is not None:
        counts.saved_nano = price.saved_nano(counts.usage)
    return counts


def _named(by: Sequence[str], key: Sequence[Any]) -> tuple[str, ...]:
    return tuple(
        date_of(value).isoformat() if name == "day" else str(value)
        for name, value in zip(by, key, strict=True)
    )
