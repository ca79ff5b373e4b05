"""Tokens of one answer, as the hosted API counts them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens. `cached` is part of `prompt`, `reasoning` part of `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0

    @classmethod
    def of_engine(cls, usage: dict[str, Any]) -> "Usage":
        """From an engine's usage object; details that are absent count as zero."""
        prompt = usage.get("prompt_tokens") or 0
        completion = usage.get("completion_tokens") or 0
        prompt_details = usage.get("prompt_tokens_details") or {}
        completion_details = usage.get("completion_tokens_details") or {}
        return cls(
            prompt,
            completion,
            min(prompt_details.get("cached_tokens") or 0, prompt),
            min(completion_details.get("reasoning_tokens") or 0, completion),
        )

    def openai(self) -> dict[str, Any]:
        """OpenAI's CompletionUsage (API reference, chat completion object)."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def responses(self) -> dict[str, Any]:
        """OpenAI's ResponseUsage (API reference, response object)."""
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": 0},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.prompt + self.completion,
        }

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
        )

    def anthropic(self) -> dict[str, Any]:
        """Anthropic's Usage (Messages API): what was read from the cache is not in `input_tokens`.

        Writing the cache costs nothing here, so that nothing counts as created.
        """
        return {
            "input_tokens": self.prompt - self.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": self.completion,
            "output_tokens_details": {"thinking_tokens": self.reasoning},
            "server_tool_use": None,
        }
