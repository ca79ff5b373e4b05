"""Steps of a pretended core that has only so much to give: a batch, chunks of prompts, a cache.

As vLLM's scheduler (v1/core/sched): each step is given a budget of tokens, first to requests that
write, one each, then to prompts, in chunks, in the order of priority and of coming. Who does not
fit into the cache is preempted, the last first, and computed anew. A step takes a fixed time and
some for each token.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from serve.engines.fake.knobs import Knobs


@dataclass(eq=False)
class Job:
    """One request. `wrote` is called for each of its tokens, and returns whether more will come."""

    order: tuple[int, int]
    prompt: int
    wide: int
    wrote: Callable[[], bool]
    left: int = 0
    """Tokens of the prompt still to be computed."""
    written: int = 0
    gone: bool = False

    @property
    def held(self) -> int:
        """Tokens that it has in the cache."""
        return self.prompt - self.left + self.written * self.wide

    def cancel(self) -> None:
        """Compute nothing more for it."""
        self.gone = True


@dataclass
class Core:
    """One model's core; idle, it costs nothing."""

    knobs: Knobs
    on_step: Callable[[], None]
    running: list[Job] = field(default_factory=list)
    _waiting: list[tuple[tuple[int, int], Job]] = field(default_factory=list)
    _serial: "itertools.count[int]" = field(default_factory=itertools.count)
    _stepping: bool = False

    def add(self, prompt: int, priority: int, wide: int, wrote: Callable[[], bool]) -> Job:
        """Take a request; each step writes `wide` tokens of it."""
        job = Job((priority, next(self._serial)), prompt, wide, wrote, left=prompt)
        heapq.heappush(self._waiting, (job.order, job))
        if not self._stepping:
            self._stepping = True
            asyncio.get_running_loop().call_soon(self._begin)
        return job

    @property
    def waiting(self) -> int:
        return sum(not job.gone for _, job in self._waiting)

    def _begin(self) -> None:
        share = self._shares()
        if not share:
            self._stepping = False
            return
        tokens = sum(share.values())
        seconds = self.knobs.step_ms / 1e3 + tokens * self.knobs.token_us / 1e6
        asyncio.get_running_loop().call_later(seconds, self._end, share)

    def _shares(self) -> dict[Job, int]:
        """What each request is given of this step."""
        self.running = [job for job in self.running if not job.gone]
        self._make_room()
        share: dict[Job, int] = {}
        left = self.knobs.step_tokens
        for job in self.running:
            share[job] = min(left, job.left or job.wide)
            left -= share[job]
        while left > 0 and self._waiting and len(self.running) < self.knobs.max_streams:
            job = self._waiting[0][1]
            if not job.gone and not self._fits(job):
                break
            heapq.heappop(self._waiting)
            if not job.gone:
                self.running.append(job)
                share[job] = min(left, job.left)
                left -= share[job]
        return {job: tokens for job, tokens in share.items() if tokens}

    def _fits(self, job: Job) -> bool:
        cache = self.knobs.cache_tokens
        held = sum(one.held + one.left for one in self.running)
        return not cache or not self.running or held + job.left + job.wide <= cache

    def _make_room(self) -> None:
        cache = self.knobs.cache_tokens
        while cache and len(self.running) > 1:
            if sum(one.held + one.left + one.wide for one in self.running) <= cache:
                return
            last = max(self.running, key=lambda job: job.order)
            self.running.remove(last)
            last.left = last.prompt = last.held + last.left
            last.written = 0
            heapq.heappush(self._waiting, (last.order, last))

    def _end(self, share: dict[Job, int]) -> None:
        self.on_step()
        for job, tokens in share.items():
            if job.gone:
                continue
            if job.left:
                job.left -= tokens
                if job.left:
                    continue
            job.written += 1
            if not job.wrote():
                job.gone = True
        self._begin()
