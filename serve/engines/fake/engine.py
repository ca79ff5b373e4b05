"""What the connections of one fake engine share: counters, cache, adapters, sleep, steps."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from serve.engines.fake.adapters import Adapters
from serve.engines.fake.core import Core
from serve.engines.fake.knobs import Knobs
from serve.engines.fake.prefix import PrefixCache

STEP_S: Final = 0.1
"""Longest step of a long wait; each is seen in the metrics, as a chunk of a prompt is."""
KV_BLOCKS: Final = 100_000
ENDS_AFTER_S: Final = 1.0
"""How long a server outlives its core."""


class FakeEngine:
    """One model's pretended core."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.prefix = PrefixCache(knobs.block_tokens, knobs.cache_blocks)
        self.adapters = Adapters(knobs.model, knobs.lora_rank_max)
        self.core = Core(knobs, self.chunk) if knobs.step_ms else None
        self.running = 0
        self.served = 0
        self.steps = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.asleep_level = 0
        self.stalled = False
        self.dead = False
        self.crunching = 0
        self._held: list[Callable[[], None]] = []
        self._kv_blocks = 0
        self._ballast = bytearray()
        self._has_weights = True
        self._fill()
        if knobs.stall_after_s is not None:
            asyncio.get_running_loop().call_later(knobs.stall_after_s, self.stall)

    def stall(self) -> None:
        """Make no step any more."""
        self.stalled = True

    def lose_core(self) -> None:
        """Refuse everything, and end soon, as vLLM's server does then."""
        if not self.dead:
            self.dead = True
            asyncio.get_running_loop().call_later(ENDS_AFTER_S, os._exit, 1)

    def knows(self, model: str) -> bool:
        """Whether a request may name it."""
        return model == self.knobs.model or model in self.adapters.paths

    def when_free(self, begin: Callable[[], None]) -> None:
        """Begin now, or once the engine has woken, or ended its step."""
        if self.asleep_level or self.crunching:
            self._held.append(begin)
        else:
            begin()

    async def sleep(self, level: int, mode: str) -> None:
        """Give the memory back; with `wait` after what runs has ended."""
        while mode == "wait" and self.running:  # noqa: ASYNC110 - nobody tells of each end
            await asyncio.sleep(0.005)
        await asyncio.sleep(self.knobs.order_ms / 1000)
        self.asleep_level = level
        self._has_weights = level < 2
        self._ballast = bytearray()

    async def wake(self, tag: str | None = None) -> bool:
        """Take the memory again; fully awake (True) it begins what has waited.

        After level 2 the weights' memory comes first, then the weights, then the cache's; woken
        in another way it answers nonsense, as a real one would.
        """
        await asyncio.sleep(self.knobs.order_ms / 1000)
        if tag != "kv_cache":
            self._fill()
            self._has_weights = self.asleep_level < 2
        if tag == "weights":
            return False
        self.asleep_level = 0
        self._release()
        return True

    def reload_weights(self) -> bool:
        """Read them from disk into their memory; False where that is still given away."""
        self._has_weights = len(self._ballast) == self.knobs.memory_mib * 2**20
        return self._has_weights

    @property
    def sane(self) -> bool:
        """It has its weights."""
        return self._has_weights

    def _release(self) -> None:
        held, self._held = self._held, []
        for begin in held:
            self.when_free(begin)

    def crunch(self) -> None:
        """Begin a step that holds up everybody."""
        self.crunching += 1

    def crunched(self) -> None:
        """End it."""
        self.crunching -= 1
        self._release()

    def _fill(self) -> None:
        self._ballast = bytearray(b"\1") * (self.knobs.memory_mib * 2**20)

    def chunk(self) -> None:
        """One step of a prompt: nothing is generated, but the cache fills."""
        self.steps += 1
        self._kv_blocks += 1

    @property
    def _in_line(self) -> int:
        return self.core.waiting if self.core is not None else 0

    def metrics(self) -> str:
        """The page of `/metrics`: the series of vLLM's that this server reads."""
        name = f'{{engine="0",model_name="{self.knobs.model}"}}'
        cache = self.prefix
        rows = (
            ("vllm:num_requests_running", "gauge", self.running),
            ("vllm:num_requests_waiting", "gauge", len(self._held) + self._in_line),
            ("vllm:kv_cache_usage_perc", "gauge", self._kv_blocks % KV_BLOCKS / KV_BLOCKS),
            ("vllm:prompt_tokens_total", "counter", self.prompt_tokens),
            ("vllm:generation_tokens_total", "counter", self.generated_tokens),
            ("vllm:prefix_cache_queries_total", "counter", cache.queried_tokens),
            ("vllm:prefix_cache_hits_total", "counter", cache.hit_tokens),
            ("fake_steps_total", "counter", self.steps),
        )
        lines = [f"# TYPE {series} {kind}\n{series}{name} {value}" for series, kind, value in rows]
        lines.append(
            f"# TYPE fake_requests_served_total counter\nfake_requests_served_total {self.served}"
        )
        if self.knobs.cache_tokens:
            lines.append(
                "# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info"
                f'{{engine="0",block_size="1",num_gpu_blocks="{self.knobs.cache_tokens}"}} 1.0'
            )
        return "\n".join(lines) + "\n"


class Work:
    """Seconds of an engine's time for one request, spent in steps, then `done` is called.

    In one step (`whole`) the time is spent computing, in a thread: the server answers on, but
    nothing that it counts moves.
    """

    def __init__(
        self,
        engine: FakeEngine,
        seconds: float,
        done: Callable[[], None],
        *,
        whole: bool = False,
    ) -> None:
        self._engine = engine
        self._left_s = seconds
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled = False
        if whole:
            engine.crunch()
            threading.Thread(target=self._crunch, args=(seconds,), daemon=True).start()
        else:
            self._next()

    def cancel(self) -> None:
        self._cancelled = True
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        step_s = min(STEP_S, self._left_s)
        self._left_s -= step_s
        self._timer = self._loop.call_later(step_s, self._step)

    def _step(self) -> None:
        if self._cancelled or self._engine.stalled:
            return
        if self._left_s <= 0:
            self._done()
            return
        if not self._engine.crunching:
            self._engine.chunk()
        self._next()

    def _crunch(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not self._cancelled:
            sum(range(10_000))
        self._loop.call_soon_threadsafe(self._crunched)

    def _crunched(self) -> None:
        self._engine.crunched()
        self._left_s = 0.0
        self._step()
