"""A request that may run: what it asks, of whom, with what before it, and its answer so far."""

from dataclasses import dataclass
from typing import Any, Final

from serve.core.call import Call, Principal
from serve.respond.asked import Asked
from serve.respond.events import Answer
from serve.respond.offer import Offer
from serve.served import Served

JSON = dict[str, Any]

ENDPOINT: Final = "responses"
"""Its name in metrics and in the log."""


@dataclass(slots=True)
class Turn:
    """A request that may run. `items` are its own, `history` those before them."""

    asked: Asked
    principal: Principal
    request_id: str
    received_s: float
    served: Served
    history: tuple[JSON, ...]
    items: tuple[JSON, ...]
    messages: list[JSON]
    dropped: int
    answer: Answer
    offer: Offer | None = None
    """What the model may call of the site's servers, once that is known."""
    settling: bool = False
    """How it ends is known, and is being written down."""
    erasures: int | None = None
    """Of its tenant, when it began: what it makes is not kept after another."""
    gone: bool = False
    """It was deleted while it ran, or another gateway has it: its end is told to nobody."""
    holds: bool = False
    """Its conversation waits for its end."""

    @property
    def before(self) -> tuple[JSON, ...]:
        """All items that were there when it began."""
        return (*self.history, *self.items)

    def call(self, tools: JSON, tokens_max: int | None, received_s: float) -> Call:
        """What the engine is asked; `tools` replaces what its body says of them."""
        asked, served = self.asked, self.served
        body: JSON = {
            **asked.engine_body,
            **tools,
            "model": served.engine_model,
            "messages": self.messages,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        if tokens_max is not None:
            body["max_completion_tokens"] = tokens_max
        return Call(
            request_id=self.request_id,
            endpoint=ENDPOINT,
            path="/v1/chat/completions",
            principal=self.principal,
            model_id=served.id,
            body=body,
            choices=1,
            include_usage=False,
            received_s=received_s,
            max_output_tokens=tokens_max,
            forced_tool=type(body.get("tool_choice")) is dict,
            strict_tools=asked.strict_tools,
            asked=asked.model,
            tier=self.answer.tier,
        )
