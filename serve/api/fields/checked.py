"""A request that passed: what the engine is sent, and what the gateway needs to know of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Checked:
    """One checked request.

    `engine_body` lacks `model`, `stream` and `stream_options`, which its sender sets, and has no
    nulls. `n` counts all choices of the answer, those of every prompt. `max_output_tokens`
    bounds each choice. `prompts` are the texts of each prompt that came as text (a chat is one
    prompt), `token_prompts` the lengths in tokens of those that came as token ids, `prompt_bytes`
    the size of all texts in UTF-8, `images` how many there are beside them. `strict_tools` are
    the parameters' schemas by tool name.
    `forced_tool`: `tool_choice` names the tool. `echo` goes into the response object as it is.
    `store`: the answer is to be kept. `tier`: the service tier that is asked for.
    """

    model: str
    stream: bool
    include_usage: bool
    n: int
    engine_body: dict[str, Any]
    max_output_tokens: int | None
    prompts: tuple[list[str], ...]
    prompt_bytes: int
    token_prompts: tuple[int, ...] = ()
    logprobs: bool = False
    tool_names: tuple[str, ...] = ()
    tool_choice: str | None = None
    forced_tool: bool = False
    strict_tools: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    echo: Mapping[str, Any] = field(default_factory=dict)
    store: bool = False
    tier: str | None = None
    images: int = 0

    @property
    def has_tools(self) -> bool:
        """Whether the model may call something."""
        return bool(self.tool_names) and self.tool_choice != "none"
