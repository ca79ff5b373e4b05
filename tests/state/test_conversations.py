"""Conversations and their items, in both databases."""

import asyncio

import pytest

from serve.core.errors import InvalidRequest, NotFound
from serve.state.conversations import Conversations
from serve.state.page import Cut
from serve.state.records import JSON
from serve.store.database import Database
from tests.state.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def conversations(database: Database, clock: Clock) -> Conversations:
    return Conversations(database, lambda tenant: None if tenant == "ever" else 60.0, clock)


def items(*numbers: int) -> list[JSON]:
    return [{"id": f"msg_{number}", "type": "message", "n": number} for number in numbers]


async def test_items_keep_their_order(conversations: Conversations) -> None:
    made = await conversations.add("t", "c", {"topic": "x"}, items(3, 1))
    await conversations.append("t", "c", items(2))
    assert await conversations.get("t", "c") == made
    assert [one["n"] for one in await conversations.items("t", "c")] == [3, 1, 2]
    assert await conversations.item("t", "c", "msg_2") == items(2)[0]


async def test_pages(conversations: Conversations) -> None:
    await conversations.add("t", "c", {}, items(*range(7)))

    async def page(cut: Cut) -> tuple[list[int], bool]:
        found = await conversations.page("t", "c", cut)
        return [one["n"] for one in found.items], found.has_more

    assert await page(Cut(limit=3)) == ([6, 5, 4], True)
    assert await page(Cut(limit=3, after="msg_4")) == ([3, 2, 1], True)
    assert await page(Cut(limit=3, after="msg_1")) == ([0], False)
    assert await page(Cut(limit=3, ascending=True, after="msg_1")) == ([2, 3, 4], True)
    assert await page(Cut(limit=9, ascending=True, before="msg_2")) == ([0, 1], False)
    with pytest.raises(InvalidRequest, match="'msg_99' is in this list"):
        await page(Cut(after="msg_99"))


async def test_an_item_twice_makes_no_conversation(conversations: Conversations) -> None:
    with pytest.raises(InvalidRequest, match="same id"):
        await conversations.add("t", "c", {}, items(1, 1))
    with pytest.raises(NotFound):
        await conversations.get("t", "c")


async def test_an_item_twice_adds_none(conversations: Conversations) -> None:
    await conversations.add("t", "c", {}, items(1))
    with pytest.raises(InvalidRequest, match="same id"):
        await conversations.append("t", "c", items(2, 1))
    assert await conversations.items("t", "c") == tuple(items(1))
    await conversations.add("t", "d", {}, items(1))
    assert await conversations.items("t", "d") == tuple(items(1)), "another may have its own"


async def test_changes_and_deletion(conversations: Conversations) -> None:
    await conversations.add("t", "c", {"a": "1"}, items(1, 2))
    assert (await conversations.update("t", "c", {"b": "2"})).metadata == {"b": "2"}
    assert (await conversations.delete_item("t", "c", "msg_1")).id == "c"
    with pytest.raises(NotFound, match="item with id 'msg_1'"):
        await conversations.delete_item("t", "c", "msg_1")
    with pytest.raises(NotFound, match="item with id 'msg_1'"):
        await conversations.item("t", "c", "msg_1")
    await conversations.delete("t", "c")
    await conversations.add("t", "c", {}, [])
    assert await conversations.items("t", "c") == ()


async def test_others_do_not_exist(conversations: Conversations) -> None:
    await conversations.add("t", "c", {}, items(1))
    for call in (
        conversations.get("u", "c"),
        conversations.items("u", "c"),
        conversations.append("u", "c", items(2)),
        conversations.update("u", "c", {}),
        conversations.page("u", "c", Cut()),
        conversations.item("u", "c", "msg_1"),
        conversations.delete_item("u", "c", "msg_1"),
        conversations.delete("u", "c"),
    ):
        with pytest.raises(NotFound, match="Conversation with id 'c' not found"):
            await call
    assert await conversations.items("t", "c") == tuple(items(1))


async def test_each_change_keeps_it_longer(conversations: Conversations, clock: Clock) -> None:
    await conversations.add("t", "c", {}, [])
    await conversations.add("ever", "e", {}, [])
    clock.now_s += 59
    await conversations.append("t", "c", items(1))
    clock.now_s += 59
    assert await conversations.items("t", "c") == tuple(items(1))
    clock.now_s += 1
    with pytest.raises(NotFound):
        await conversations.get("t", "c")
    clock.now_s += 1e9
    assert (await conversations.get("ever", "e")).expires_s is None


async def test_many_at_once_lose_nothing(conversations: Conversations) -> None:
    await conversations.add("t", "c", {}, [])
    await asyncio.gather(
        *(conversations.append("t", "c", items(10 * n, 10 * n + 1)) for n in range(20))
    )
    numbers = [one["n"] for one in await conversations.items("t", "c")]
    assert sorted(numbers) == sorted(m for n in range(20) for m in (10 * n, 10 * n + 1))
    assert all(b == a + 1 for a, b in zip(numbers[::2], numbers[1::2], strict=True))
