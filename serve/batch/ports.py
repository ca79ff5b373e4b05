"""What running batches asks of the server around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from serve.batch.pace import Seen
from serve.core.call import Principal

ENDPOINTS: Final = ("/v1/responses", "/v1/chat/completions", "/v1/embeddings", "/v1/completions")
"""What batches may run, where it is served."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request was answered; `retry_after_s` where it was told to come again."""

    status: int
    request_id: str
    body: Any
    retry_after_s: float | None = None


class Execute(Protocol):
    """Answers a request as if its client had sent it: the same checks, bounds and accounts."""

    async def __call__(
        self, endpoint: str, body: Mapping[str, Any], principal: Principal
    ) -> Answer: ...


class Traffic(Protocol):
    """Knows what else is asked of a model; any name will do."""

    def __call__(self, model: str) -> Seen: ...


class Observer(Protocol):
    """Is told what becomes of batches."""

    def batch_line(self, outcome: str) -> None:
        """A line has ended: `completed`, `failed`, `expired` or `cancelled`."""
