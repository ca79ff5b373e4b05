"""The end of a turn is in both places or in neither; a conversation has one turn at a time."""

import asyncio
from dataclasses import replace

import pytest

from serve.core.errors import InvalidRequest, NotFound
from serve.state.conversations import Conversations
from serve.state.responses import Responses
from serve.state.turnbook import Turnbook
from serve.store.database import Database
from tests.state.test_responses import NOW_S, record, running

ITEMS = ({"id": "msg_in"}, {"id": "msg_out"})


class Books:
    def __init__(self, database: Database) -> None:
        self.responses = Responses(database, lambda: NOW_S)
        self.conversations = Conversations(database, lambda _: 60.0, lambda: NOW_S)
        self.ends = Turnbook(database, self.responses, self.conversations)


@pytest.fixture
async def books(database: Database) -> Books:
    made = Books(database)
    await made.conversations.add("t", "c", {}, [{"id": "first"}])
    return made


async def test_both_are_kept_and_the_turn_is_over(books: Books) -> None:
    await books.conversations.begin_turn("t", "c", "r")
    assert await books.ends.close(record("r", conversation="c"), ITEMS, None, stored=True)
    assert (await books.responses.get("t", "r")).conversation == "c"
    assert await books.conversations.items("t", "c") == ({"id": "first"}, *ITEMS)
    await books.conversations.begin_turn("t", "c", "next")


async def test_what_is_not_stored_is_in_its_conversation_only(books: Books) -> None:
    await books.conversations.begin_turn("t", "c", "r")
    assert await books.ends.close(record("r", conversation="c"), ITEMS, None, stored=False)
    assert len(await books.conversations.items("t", "c")) == 3
    with pytest.raises(NotFound):
        await books.responses.get("t", "r")


@pytest.mark.parametrize("fault", ["no conversation", "an item twice", "another's turn"])
async def test_neither_is_kept(books: Books, fault: str) -> None:
    conversation, items = "c", ITEMS
    if fault == "no conversation":
        conversation = "gone"
    elif fault == "an item twice":
        items = ({"id": "new"}, {"id": "first"})
    else:
        await books.conversations.begin_turn("t", "c", "another")
    end = record("r", conversation=conversation)
    with pytest.raises(NotFound if fault == "no conversation" else InvalidRequest):
        await books.ends.close(end, items, None, stored=True)
    with pytest.raises(NotFound, match="Response"):
        await books.responses.get("t", "r")
    assert await books.conversations.items("t", "c") == ({"id": "first"},)


async def test_one_that_was_deleted_while_it_ran_adds_nothing(books: Books) -> None:
    await books.responses.add(running("r", conversation="c"))
    await books.conversations.begin_turn("t", "c", "r")
    await books.responses.delete("t", "r")
    done = replace(record("r", conversation="c"), background=True)
    assert not await books.ends.close(done, ITEMS, None, stored=True)
    assert await books.conversations.items("t", "c") == ({"id": "first"},)


async def test_of_many_turns_at_once_one_begins(books: Books) -> None:
    begun = await asyncio.gather(
        *(books.conversations.begin_turn("t", "c", f"r{n}") for n in range(8)),
        return_exceptions=True,
    )
    refused = [one for one in begun if isinstance(one, InvalidRequest)]
    assert len(refused) == 7
    assert {(one.code, one.param) for one in refused} == {("conversation_locked", "conversation")}
    mine = f"r{begun.index(None)}"
    await books.conversations.begin_turn("t", "c", mine)
    for change in (
        books.conversations.append("t", "c", [{"id": "between"}]),
        books.conversations.delete_item("t", "c", "first"),
    ):
        with pytest.raises(InvalidRequest, match="Another response is being made"):
            await change
    await books.conversations.update("t", "c", {"topic": "free"})
    await books.conversations.end_turn("c", "not this one")
    with pytest.raises(InvalidRequest):
        await books.conversations.begin_turn("t", "c", "late")
    await books.conversations.end_turn("c", mine)
    await books.conversations.begin_turn("t", "c", "late")
