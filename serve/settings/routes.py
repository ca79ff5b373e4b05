"""Names that stand for a choice: rules that pick a model by what a request asks."""

from typing import Literal, Self

from pydantic import Field, model_validator

from serve.settings.terms import Frozen, ModelName, TargetName


class When(Frozen):
    """What a request must be for a rule to hold; everything that is given must."""

    prompt_chars_min: int | None = Field(
        default=None, ge=0, description="Least length of all messages together, in characters."
    )
    prompt_chars_max: int | None = Field(
        default=None, ge=0, description="Greatest length of all messages together, in characters."
    )
    tools: bool | None = Field(default=None, description="Whether the request offers tools.")
    reasoning_effort: tuple[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"], ...
    ] = Field(default=(), description="The request's `reasoning_effort` is one of these.")
    metadata: dict[str, str] = Field(
        default_factory=dict,
        max_length=16,
        description="Keys and values that the request's `metadata` holds.",
    )

    @model_validator(mode="after")
    def _some_length(self) -> Self:
        least, most = self.prompt_chars_min, self.prompt_chars_max
        if least is not None and most is not None and least > most:
            raise ValueError("prompt_chars_min is above prompt_chars_max; no prompt is both")
        return self


class Rule(Frozen):
    """One rule of a route."""

    name: ModelName = Field(description="The rule; answers say which one chose.")
    model: TargetName = Field(description="The model that answers where the rule holds.")
    when: When = Field(default=When(), description="What must hold; without it, always.")


class Route(Frozen):
    """A name that clients ask for and that no model has."""

    name: ModelName = Field(description="What clients ask for, for instance `auto`.")
    rules: tuple[Rule, ...] = Field(
        default=(), max_length=64, description="Tried in order; the first that holds decides."
    )
    otherwise: TargetName = Field(description="The model that answers where no rule holds.")
