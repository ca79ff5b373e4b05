"""Steps of the pretended core: who is given what of them."""

import asyncio
import time

from serve.engines.fake.core import Core
from serve.engines.fake.knobs import Knobs


class Rig:
    def __init__(self, **knobs: int) -> None:
        self.steps = 0
        self.core = Core(Knobs(step_ms=0.1, **knobs), self._stepped)  # type: ignore[arg-type]
        self.wrote: list[tuple[int, str]] = []
        self.done = asyncio.Event()
        self._open = 0

    def _stepped(self) -> None:
        self.steps += 1

    def add(self, name: str, prompt: int, tokens: int, priority: int = 0) -> None:
        left = tokens
        self._open += 1

        def wrote() -> bool:
            nonlocal left
            left -= 1
            self.wrote.append((self.steps, name))
            if not left:
                self._open -= 1
                if not self._open:
                    self.done.set()
            return left > 0

        self.core.add(prompt, priority, 1, wrote)

    async def ended(self) -> None:
        async with asyncio.timeout(10):
            await self.done.wait()

    def first(self, name: str) -> int:
        return next(step for step, one in self.wrote if one == name)


async def test_a_prompt_is_computed_in_chunks_beside_those_who_write() -> None:
    rig = Rig(step_tokens=10)
    rig.add("a", 10, 8)
    rig.add("b", 27, 1)
    await rig.ended()
    assert rig.first("a") == 1
    assert rig.first("b") == 4  # nine tokens of each step are left to it
    assert [step for step, name in rig.wrote if name == "a"] == list(range(1, 9))


async def test_priority_then_the_order_of_coming() -> None:
    rig = Rig(max_streams=1)
    rig.add("late", 1, 1, priority=1)
    rig.add("first", 1, 1)
    rig.add("second", 1, 1)
    rig.add("soon", 1, 1, priority=-1)
    await rig.ended()
    assert [name for _, name in rig.wrote] == ["soon", "first", "second", "late"]


async def test_who_does_not_fit_waits_or_begins_anew() -> None:
    rig = Rig(cache_tokens=40)
    rig.add("a", 15, 10)
    rig.add("b", 15, 10)
    rig.add("c", 30, 1)
    await rig.ended()
    assert len(rig.wrote) == 21  # each token once, for all that was computed twice
    assert rig.first("c") > max(step for step, name in rig.wrote if name == "a")
    assert rig.wrote[-1][1] in ("b", "c")


async def test_who_is_gone_costs_nothing_and_a_step_takes_its_time() -> None:
    core = Core(Knobs(step_ms=5, token_us=100), lambda: None)
    times: list[float] = []
    ended = asyncio.Event()

    def wrote() -> bool:
        times.append(time.monotonic())
        if len(times) == 3:
            ended.set()
        return len(times) < 3

    begun_s = time.monotonic()
    core.add(100, 0, 1, wrote)
    core.add(400, 0, 1, wrote).cancel()
    await asyncio.wait_for(ended.wait(), 10)
    assert times[0] - begun_s >= 0.0145
    assert times[1] - times[0] >= 0.0048
    assert core.waiting == 0
