"""What a fake engine is told on its command line."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Knobs:
    """Pace and size of every answer; a prompt's directives win over them."""

    model: str = "fake"
    tokens: int = 16
    ttft_ms: float = 0.0
    tpot_ms: float = 0.0
    context_tokens: int = 8192
    memory_mib: int = 0
    """Memory written and held while awake, as weights and cache would be."""
    order_ms: float = 0.0
    """What an order to sleep, to wake or to load an adapter takes."""
    block_tokens: int = 16
    """Size of the prefix cache's blocks; a prompt's last token is never taken from it."""
    cache_blocks: int = 4096
    lora_rank_max: int = 16
    stall_after_s: float | None = None
    """From then on it makes no step, and answers its health route all the same."""
