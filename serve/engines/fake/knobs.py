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
    step_ms: float = 0.0
    """Where above 0, requests share steps of this length, and `token_us` for each token in one
    (`serve.engines.fake.core`); the pace of single answers counts for nothing then."""
    token_us: float = 0.0
    step_tokens: int = 512
    max_streams: int = 256
    cache_tokens: int = 0
    """What the KV cache holds of them; 0 is without end."""
    stall_after_s: float | None = None
    """From then on it makes no step, and answers its health route all the same."""
