"""What tokens cost: each model's prices with the dates from which they hold.

Prices are for a million tokens, in the site's currency, with at most three decimals; so the price
of any number of tokens is a whole number of billionths, and sums are exact.
"""

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Final

from pydantic import Field, WithJsonSchema

from serve.core.ledger import DAY_S
from serve.core.usage import Usage
from serve.settings.consistency import Conflict
from serve.settings.model import ServedModel
from serve.settings.terms import IN_WORDS, Frozen, TargetName

Money = Annotated[
    Decimal,
    Field(ge=0, le=1_000_000, decimal_places=3),
    WithJsonSchema(
        {
            "type": "number", "minimum": 0, "maximum": 1_000_000,
            IN_WORDS: "a number of 0 to 1000000 with at most three decimals",
        }
    ),
]  # fmt: skip
Currency = Annotated[
    str, Field(pattern=r"^[A-Z]{3}$", json_schema_extra={IN_WORDS: "three letters (ISO 4217)"})
]
_NANO_PER_TOKEN: Final = 1000
"""Billionths of the currency for one token, where a million cost one."""
_DATE: Final = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_EPOCH: Final = datetime.date(1970, 1, 1)


class Price(Frozen):
    """What a million tokens of one model cost, from a day on."""

    since: datetime.date | None = Field(
        default=None,
        description="First day, in UTC; without it, it holds from ever. Only a model's first price "
        "may leave it out.",
    )
    until: datetime.date | None = Field(
        default=None,
        description="Day before which it ends; without it, the next price ends it. The last price "
        "of a model has none.",
    )
    input: Money = Field(description="For a million tokens of prompts.")
    cached_input: Money | None = Field(
        default=None,
        description="For a million tokens of prompts that were in the prefix cache; as `input` "
        "without it, and never more.",
    )
    output: Money = Field(description="For a million tokens of answers, reasoning included.")

    def cost_nano(self, usage: Usage) -> int:
        """Billionths of the currency."""
        return (
            (usage.prompt - usage.cached) * _nano(self.input)
            + usage.cached * _nano(self.cached)
            + usage.completion * _nano(self.output)
        )

    def saved_nano(self, usage: Usage) -> int:
        """What its cached tokens would have cost more without the cache."""
        return usage.cached * (_nano(self.input) - _nano(self.cached))

    @property
    def cached(self) -> Decimal:
        return self.input if self.cached_input is None else self.cached_input


class Prices(Frozen):
    """What tokens cost, by model."""

    currency: Currency = Field(default="USD", description="Currency of all prices.")
    models: dict[TargetName, tuple[Price, ...]] = Field(
        default={},
        max_length=1000,
        description="Prices by a model's name, its pinned name or `name:adapter`, oldest first. "
        "Adapters without their own cost what their model does. With any given, each served model "
        "needs one.",
    )

    def at(self, model_id: str, day: int) -> Price | None:
        """The price of a model, by the name that answers carry, on a day since 1970-01-01."""
        for name in _names(model_id):
            if name in self.models:
                return _on(self.models[name], _EPOCH + datetime.timedelta(days=day))
        return None


class Pricing:
    """What requests cost by these prices. See `serve.metering.recovery.Price`."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self._found: dict[tuple[str, int], Price | None] = {}

    def __call__(self, model_id: str, at_s: float, usage: Usage) -> int | None:
        price = self.on(model_id, int(at_s // DAY_S))
        return None if price is None else price.cost_nano(usage)

    def on(self, model_id: str, day: int) -> Price | None:
        """As `Prices.at`, found once for each day."""
        asked = (model_id, day)
        if asked not in self._found:
            if len(self._found) > 10_000:
                self._found.clear()
            self._found[asked] = self.prices.at(model_id, day)
        return self._found[asked]


def of_prices(prices: Prices, models: Sequence[ServedModel]) -> Iterator[Conflict]:
    """Models without a price, prices that overlap, and days between prices that have none."""
    for name, list_ in prices.models.items():
        place = ("prices", "models", name)
        said = f"prices.models.{name}"
        if not list_:
            yield Conflict(place, f"{said} has no price; give one, or remove it")
        for index, price in enumerate(list_):
            yield from _of_price((*place, index), f"{said}[{index}]", index, price)
        for index, (one, next_) in enumerate(pairwise(list_)):
            yield from _of_pair((*place, index + 1), said, index, one, next_)
        if list_ and list_[-1].until is not None:
            yield Conflict(
                (*place, len(list_) - 1, "until"),
                f"{said} has no price from {list_[-1].until} on; add one, or remove this until",
            )
    if prices.models:
        yield from _unpriced(prices.models, models)


def _of_price(
    place: tuple[str | int, ...], said: str, index: int, price: Price
) -> Iterator[Conflict]:
    if price.cached > price.input:
        yield Conflict(
            (*place, "cached_input"),
            f"{said}: cached tokens cost more ({price.cached}) than others ({price.input})",
        )
    if index and price.since is None:
        yield Conflict(place, f"{said} needs the day since which it holds: others come before it")
    if price.since is not None and price.until is not None and price.until <= price.since:
        yield Conflict((*place, "until"), f"{said} ends on {price.until}, before it begins")


def _of_pair(
    place: tuple[str | int, ...], said: str, index: int, one: Price, next_: Price
) -> Iterator[Conflict]:
    if next_.since is None:
        return
    if one.since is not None and next_.since <= one.since:
        yield Conflict(
            place,
            f"{said}[{index + 1}] holds since {next_.since}, which is not after {one.since}, since "
            "which the one before it does; list them oldest first",
        )
    elif one.until is not None and one.until > next_.since:
        yield Conflict(
            place,
            f"{said} has two prices from {next_.since} until {one.until}; end [{index}] earlier",
        )
    elif one.until is not None and one.until < next_.since:
        yield Conflict(
            place,
            f"{said} has no price from {one.until} until {next_.since}; end [{index}] later, or "
            f"begin [{index + 1}] earlier",
        )


def _unpriced(prices: Mapping[str, Any], models: Sequence[ServedModel]) -> Iterator[Conflict]:
    for index, model in enumerate(models):
        if not any(name in prices for name in _names(model.entry.pin)):
            name = model.config.name
            yield Conflict(
                ("models", index),
                f"{name} has no price, and others have; give it one in prices.models, 0 if it "
                "costs nothing",
            )


def _names(model_id: str) -> Iterator[str]:
    """The names under which a model's price may be, the closest first."""
    base, _, adapter = model_id.partition(":")
    plain = _DATE.sub("", base)
    yield model_id
    if adapter:
        yield f"{plain}:{_DATE.sub('', adapter)}"
    yield base
    yield plain


def _on(prices: Sequence[Price], date: datetime.date) -> Price | None:
    for price in reversed(prices):
        if price.since is None or price.since <= date:
            return price if price.until is None or date < price.until else None
    return None


def _nano(price: Decimal) -> int:
    return int(price * _NANO_PER_TOKEN)
