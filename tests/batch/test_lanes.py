"""Places on the models: few, in turn, and fewer while others ask."""

import asyncio
import math

from serve.batch.lanes import Lanes
from serve.batch.pace import Seen
from serve.settings.batches import Batches


async def test_places_are_few_and_given_in_turn() -> None:
    lanes = Lanes(Batches(concurrent_lines=2), lambda model: Seen(model, 0, math.inf))
    first, _ = await lanes.enter("m"), await lanes.enter("m")
    other = await asyncio.wait_for(lanes.enter("n"), 1)
    assert other is not first
    order: list[int] = []

    async def wait(number: int) -> None:
        await lanes.enter("m")
        order.append(number)

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0.01)
    assert order == []
    for count in (1, 2, 3):
        lanes.leave(first)
        async with asyncio.timeout(1):
            await waiting[count - 1]
        assert order == list(range(count))


async def test_who_gives_up_waiting_holds_nobody_up() -> None:
    lanes = Lanes(Batches(concurrent_lines=1), lambda model: Seen(model, 0, math.inf))
    lane = await lanes.enter("m")
    waiting = asyncio.create_task(lanes.enter("m"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait({waiting})
    lanes.leave(lane)
    assert await asyncio.wait_for(lanes.enter("m"), 1) is lane
    assert lane.running == 1


async def test_others_are_looked_at_again() -> None:
    others = 1
    lanes = Lanes(
        Batches(concurrent_lines=2, lines_beside=0),
        lambda model: Seen(model, others, math.inf),
    )
    waiting = asyncio.create_task(lanes.enter("m"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    others = 0
    await asyncio.wait_for(waiting, 1)
