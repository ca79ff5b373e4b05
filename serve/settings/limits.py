"""What one tenant may take: rates, sizes, its weight beside others, and what it may spend."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from serve.settings.terms import Frozen, ModelName

COUNT_MAX: Final = 10**15
"""More than any engine makes in a day, and still exact as a JSON number."""
MODELS_MAX: Final = 64

RATES: Final = tuple(
    f"{kind}_per_{span}"
    for kind in ("requests", "input_tokens", "output_tokens")
    for span in ("minute", "day")
)

Tier = Literal["default", "flex", "priority"]
Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
Money = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Bounds(Frozen):
    """Rates and sizes; one that is absent bounds nothing.

    A minute and a day are the last 60 seconds and the last 24 hours, whenever they are asked for.
    """

    requests_per_minute: Count | None = Field(
        default=None, description="Requests in any 60 seconds."
    )
    requests_per_day: Count | None = Field(default=None, description="Requests in any 24 hours.")
    input_tokens_per_minute: Count | None = Field(
        default=None, description="Tokens of prompts in any 60 seconds."
    )
    input_tokens_per_day: Count | None = Field(
        default=None, description="Tokens of prompts in any 24 hours."
    )
    output_tokens_per_minute: Count | None = Field(
        default=None, description="Tokens of answers in any 60 seconds."
    )
    output_tokens_per_day: Count | None = Field(
        default=None, description="Tokens of answers in any 24 hours."
    )
    concurrent_requests: Count | None = Field(
        default=None, description="Requests in hand at once, those that wait included."
    )
    context_tokens: Annotated[int, Field(ge=16, le=16_777_216)] | None = Field(
        default=None, description="Longest prompt plus answer, where the model's own is longer."
    )
    choices: Annotated[int, Field(ge=1, le=128)] | None = Field(
        default=None, description="Largest `n` of one request, where the site's own is larger."
    )

    @cached_property
    def rates(self) -> tuple[tuple[str, int], ...]:
        """Of the limits on what comes in a minute or in a day those that are given, by name."""
        named = ((name, getattr(self, name)) for name in RATES)
        return tuple((name, limit) for name, limit in named if limit is not None)


class Budget(Frozen):
    """What may be spent in one period; the soft bound warns, the hard one refuses."""

    period: Literal["day", "month"] = Field(
        default="month", description="Calendar day or month, in UTC."
    )
    money_soft: Money | None = Field(
        default=None, description="Money, in the currency of the prices, that is warned of."
    )
    money_hard: Money | None = Field(
        default=None, description="Money from which requests are refused (429)."
    )
    tokens_soft: Count | None = Field(
        default=None, description="Tokens, prompts and answers together, that are warned of."
    )
    tokens_hard: Count | None = Field(
        default=None, description="Tokens from which requests are refused (429)."
    )

    @model_validator(mode="after")
    def _soft_first(self) -> Self:
        for soft, hard, name in (
            (self.money_soft, self.money_hard, "money"),
            (self.tokens_soft, self.tokens_hard, "tokens"),
        ):
            if soft is not None and hard is not None and soft > hard:
                raise ValueError(
                    f"{name}_soft ({soft:g}) is above {name}_hard ({hard:g}): it would never warn; "
                    "lower it"
                )
        return self

    @property
    def given(self) -> bool:
        """Whether it bounds anything."""
        bounds = (self.money_soft, self.money_hard, self.tokens_soft, self.tokens_hard)
        return any(one is not None for one in bounds)


class Limits(Bounds):
    """All that bounds one tenant."""

    weight: float = Field(
        default=1,
        ge=0.001,
        le=1000,
        allow_inf_nan=False,
        description="Its part of an engine that several tenants want, in proportion to theirs.",
    )
    tiers: tuple[Tier, ...] = Field(
        default=("default", "flex", "priority"),
        max_length=3,
        description="What `service_tier` may ask for; another is served, and shown, as `default`.",
    )
    models: dict[ModelName, Bounds] = Field(
        default_factory=dict,
        max_length=MODELS_MAX,
        description="The same bounds for single models, each with its adapters, by the name in "
        "its model file; they hold beside the others.",
    )
    budget: Budget = Field(default=Budget(), description="What it may spend.")


NO_LIMITS: Final = Limits()


def limits_from(defaults: Limits, own: Mapping[str, Any]) -> Limits:
    """A tenant's limits: its own where it has some, else the site's, field by field.

    Raises pydantic's ValidationError where its own are none.
    """
    if not own:
        return defaults
    said = Limits.model_validate(own)
    return Limits.model_validate(_over(_given(defaults), _given(said)))


def _given(limits: Limits) -> dict[str, Any]:
    return limits.model_dump(exclude_unset=True)


def _over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        there = merged.get(name)
        both = isinstance(there, Mapping) and isinstance(value, Mapping)
        merged[name] = _over(there, value) if both else value  # type: ignore[arg-type]
    return merged
