"""Orders: one at a time for each model, carried out whoever still listens."""

import asyncio

import pytest

from serve.api.admin.orders import Orders
from serve.core.clock import SystemClock
from serve.core.errors import Conflict, EngineUnavailable, RequestError
from tests.api.admin.keeper import Keeper


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(go=False)


@pytest.fixture
def orders(keeper: Keeper) -> Orders:
    return Orders(keeper, SystemClock())


async def test_the_same_order_twice_is_one(keeper: Keeper, orders: Orders) -> None:
    await orders.give("drain", "a", 0)
    await orders.give("drain", "a", 0)
    await asyncio.sleep(0)
    assert keeper.begun == [("drain", "a")]
    keeper.go.set()
    await orders.give("drain", "a", 5)
    assert orders.current("a") is None
    ended = orders.last("a")
    assert ended is not None
    assert (ended.kind, ended.error) == ("drain", None)


async def test_another_order_waits_for_the_first(keeper: Keeper, orders: Orders) -> None:
    await orders.give("drain", "a", 0)
    with pytest.raises(Conflict, match="order to drain"):
        await orders.give("load", "a", 0)
    await orders.give("load", "b", 0)
    await asyncio.sleep(0)
    assert keeper.begun == [("drain", "a"), ("load", "b")]
    await orders.close()


async def test_an_order_outlives_who_gave_it(keeper: Keeper, orders: Orders) -> None:
    giving = asyncio.create_task(orders.give("restart", "a", 60))
    await asyncio.sleep(0.01)
    giving.cancel()
    await asyncio.wait({giving})
    assert orders.current("a") is not None
    keeper.go.set()
    await orders.give("restart", "a", 5)
    assert keeper.begun == [("restart", "a")]


async def test_a_failed_order_says_why_to_all_who_wait(keeper: Keeper, orders: Orders) -> None:
    keeper.failure = EngineUnavailable("a could not be started")
    waiting = [asyncio.create_task(orders.give("load", "a", 60)) for _ in range(2)]
    await asyncio.sleep(0.01)
    keeper.go.set()
    for one in waiting:
        with pytest.raises(EngineUnavailable, match="could not be started"):
            await one
    ended = orders.last("a")
    assert ended is not None
    assert ended.error is keeper.failure


async def test_a_bug_in_an_order_is_told_without_its_words(keeper: Keeper, orders: Orders) -> None:
    keeper.failure = ValueError("secret")
    keeper.go.set()
    with pytest.raises(RequestError, match="the log says why"):
        await orders.give("load", "a", 5)


async def test_closing_leaves_nothing_behind(keeper: Keeper, orders: Orders) -> None:
    await orders.give("load", "a", 0)
    await orders.close()
    assert orders.current("a") is None
    assert len(asyncio.all_tasks()) == 1
