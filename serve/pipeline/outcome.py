"""How a request that ended in an error is counted."""

from typing import Final

from serve.core.errors import (
    BudgetSpent,
    Draining,
    EngineError,
    EngineUnavailable,
    KeyRevoked,
    Overloaded,
    RateLimited,
    RequestError,
    StorageUnavailable,
)

_OUTCOMES: Final[tuple[tuple[type[RequestError], str], ...]] = (
    (Draining, "drained"),
    (Overloaded, "overloaded"),
    (RateLimited, "rate_limited"),
    (BudgetSpent, "rate_limited"),
    (EngineUnavailable, "not_ready"),
    (EngineError, "engine_error"),
    (StorageUnavailable, "storage_unavailable"),
    (KeyRevoked, "revoked"),
)
"""The first that an error is of."""


def outcome_of(error: RequestError) -> str:
    """The word under which an error is counted."""
    return next((word for kind, word in _OUTCOMES if isinstance(error, kind)), "refused")
