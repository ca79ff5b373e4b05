"""What a request will take, guessed before and learnt from afterwards. Pure."""

from dataclasses import dataclass
from typing import Final

from serve.core.usage import Usage

TOKENS_PER_BYTE: Final = 0.25
"""Of a request's JSON, until something is known of a tenant's own."""
ANSWER_TOKENS: Final = 256
"""Of an answer that nobody bounded, until then."""
MEMORY: Final = 0.1
"""Share of the newest request in what is remembered."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of one request: its prompt, its answer at most, and its answer most likely."""

    input: int
    output_most: int
    output_likely: int

    @property
    def cost(self) -> float:
        """Of an engine's work, as far as it can be told before."""
        return self.input + self.output_likely


def cost_of(usage: Usage) -> float:
    """What it was: a prompt that is found in the cache costs next to nothing."""
    return usage.prompt - usage.cached + usage.completion


@dataclass(slots=True)
class Estimator:
    """Of one tenant on one model."""

    tokens_per_byte: float = TOKENS_PER_BYTE
    answer_tokens: float = ANSWER_TOKENS

    def estimate(self, size_bytes: int, choices: int, bound: int | None, context: int) -> Estimate:
        """`bound` is what was asked for as each choice's longest, `context` the model's."""
        prompt = min(context, max(1, round(size_bytes * self.tokens_per_byte)))
        room = max(1, context - prompt)
        likely = min(self.answer_tokens, room if bound is None else bound)
        most = min(bound, room) if bound is not None else likely
        return Estimate(prompt, round(most * choices), max(1, round(likely * choices)))

    def learn(self, size_bytes: int, choices: int, usage: Usage) -> None:
        """A request has ended, and took this."""
        if not usage.prompt:
            return
        self.tokens_per_byte += MEMORY * (usage.prompt / max(1, size_bytes) - self.tokens_per_byte)
        self.answer_tokens += MEMORY * (usage.completion / choices - self.answer_tokens)
