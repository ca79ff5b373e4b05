"""What a key may do: which models it may ask, at which endpoints, and whether it administers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final, Literal, get_args

Family = Literal[
    "chat",
    "completions",
    "responses",
    "conversations",
    "messages",
    "embeddings",
    "score",
    "rerank",
    "tokens",
    "files",
    "batches",
]
"""Endpoints that a key is given together. Every key may see its models and `/openapi.json`."""
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)


@dataclass(frozen=True, slots=True)
class Grant:
    """`models` are names or patterns (`llama-*`); None, for these and for `endpoints`, is all."""

    models: tuple[str, ...] | None = None
    endpoints: frozenset[str] | None = None
    admin: bool = False

    def permits(self, family: Family) -> bool:
        """Whether it is good for these endpoints."""
        return self.endpoints is None or family in self.endpoints

    def covers(self, names: Iterable[str]) -> bool:
        """Whether it is good for a model, or a route, that answers to these names."""
        if self.models is None:
            return True
        pattern = _pattern(self.models)
        return any(pattern.fullmatch(name) for name in names)


@lru_cache(maxsize=1024)
def _pattern(models: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(one) for one in models) or "(?!)")


EVERYTHING: Final = Grant()
"""All models at all endpoints; not the administration."""
