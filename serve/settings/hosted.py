"""What tokens cost elsewhere: a price table with the day and the source of each figure."""

import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from serve.core.errors import SettingsError
from serve.core.usage import Usage
from serve.settings.prices import Currency, Money, Price
from serve.settings.terms import Frozen
from serve.settings.tree import Problem, read, refuse
from serve.settings.validation import validated


class HostedPrice(Frozen):
    """One model's price there, for a million tokens."""

    input: Money
    cached_input: Money | None = None
    output: Money
    as_of: datetime.date
    source: Annotated[str, Field(pattern=r"^https?://[^\s\"<>]{3,500}$")]

    def cost_nano(self, usage: Usage) -> int:
        """Billionths of the table's currency."""
        price = Price(input=self.input, cached_input=self.cached_input, output=self.output)
        return price.cost_nano(usage)


class Hosted(Frozen):
    """A table of such prices, in one currency."""

    currency: Currency
    title: Annotated[str, Field(min_length=1, max_length=200)]
    models: Annotated[dict[str, HostedPrice], Field(min_length=1, max_length=200)]


def load_hosted(path: Path) -> Hosted:
    """Raises SettingsError with every problem found, each with file and line."""
    problems: list[Problem] = []
    node = read(path, {}, problems)
    found = None if node is None else validated(Hosted, node, problems)
    refuse(problems)
    if found is None:
        raise SettingsError(f"{path}: holds no prices")
    return found
