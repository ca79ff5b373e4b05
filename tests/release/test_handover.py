"""Between two engines: who waits, for how long, and how many may."""

import asyncio

import pytest

from serve.core.errors import EngineUnavailable
from serve.engines.states import State
from serve.release.handover import Handover
from tests.release.conftest import Stage, call_of


async def test_one_more_than_may_wait_is_told_when_to_come_again(stage: Stage) -> None:
    served = stage.pipeline.served[0]
    handover = Handover(served.backend, waiting_max=1, retry_after_s=7)
    first = asyncio.create_task(handover.claim(call_of(served), 10))
    await asyncio.sleep(0)
    assert handover.waiting == 1
    # 503 with Retry-After, as for a model that is being loaded.
    with pytest.raises(EngineUnavailable, match=r"limits\.waiting_requests") as refused:
        await handover.claim(call_of(served), 10)
    assert refused.value.retry_after_s == 7
    handover.end()
    with pytest.raises(EngineUnavailable, match="is being replaced"):
        await first
    assert handover.waiting == 0


async def test_it_is_never_ready_and_waits_no_longer_than_it_may(stage: Stage) -> None:
    served = stage.pipeline.served[0]
    handover = Handover(served.backend, waiting_max=1, retry_after_s=7)
    assert handover.status.state is State.STARTING
    assert handover.client is None
    with pytest.raises(EngineUnavailable):
        await handover.claim(call_of(served), 0.001)
