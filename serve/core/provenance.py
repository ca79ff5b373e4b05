"""What an answer comes from, part by part: what its fingerprint binds together."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Provenance:
    """`weights` and `adapter` are digests, None where none is known or there is none; `config` is
    the SHA-256 of the settings that bear on answers, `engine` the version of what runs them."""

    weights: str | None = None
    adapter: str | None = None
    config: str = ""
    engine: str = ""


UNKNOWN: Final = Provenance()
