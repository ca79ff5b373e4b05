"""Stored chat completions, in both databases."""

from typing import Any

import pytest

from serve.core.errors import InvalidRequest, NotFound
from serve.state.completions import Completions, Wanted
from serve.state.page import Cut
from serve.state.records import JSON
from serve.store.database import Database
from tests.state.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def completions(database: Database, clock: Clock) -> Completions:
    return Completions(database, lambda tenant: None if tenant == "ever" else 60.0, clock)


def completion(name: str, model: str = "m", **metadata: str) -> JSON:
    return {"id": name, "model": model, "choices": [{"index": 0}], "metadata": metadata}


async def ids(completions: Completions, cut: Cut, **wanted: Any) -> tuple[list[str], bool]:
    page = await completions.page("t", cut, Wanted(**wanted))
    return [one["id"] for one in page.completions], page.has_more


async def test_what_is_kept_is_what_is_given(completions: Completions) -> None:
    messages = [{"id": "a-0", "role": "user", "content": "hi"}]
    await completions.add("t", "alias", completion("a", topic="x"), messages)
    assert await completions.get("t", "a") == completion("a", topic="x")
    assert await completions.messages("t", "a") == tuple(messages)


async def test_others_do_not_exist(completions: Completions, clock: Clock) -> None:
    for tenant, name in (("t", "a"), ("other", "b"), ("ever", "c")):
        await completions.add(tenant, "m", completion(name), [])
    for name in ("b", "none", ""):
        with pytest.raises(NotFound):
            await completions.get("t", name)
        with pytest.raises(NotFound):
            await completions.messages("t", name)
        with pytest.raises(NotFound):
            await completions.update("t", name, {})
        with pytest.raises(NotFound):
            await completions.delete("t", name)
    assert await completions.get("other", "b") == completion("b")
    assert await ids(completions, Cut()) == (["a"], False)
    clock.now_s += 61
    with pytest.raises(NotFound):
        await completions.get("t", "a")
    assert await ids(completions, Cut()) == ([], False)
    assert await completions.get("ever", "c") == completion("c")


async def test_pages_of_a_model_and_of_metadata(completions: Completions) -> None:
    for number in range(8):
        model = "big" if number % 2 else "small"
        labels = {"all": "1", f"only{number}": "ä"}
        await completions.add("t", f"{model}-alias", completion(f"c{number}", model, **labels), [])
    first = Cut(limit=3, ascending=True)
    assert await ids(completions, first) == (["c0", "c1", "c2"], True)
    assert await ids(completions, Cut(limit=3, ascending=True, after="c5")) == (["c6", "c7"], False)
    assert await ids(completions, first, model="big") == (["c1", "c3", "c5"], True)
    assert await ids(completions, first, model="big-alias") == (["c1", "c3", "c5"], True)
    assert await ids(completions, first, metadata={"all": "1", "only4": "ä"}) == (["c4"], False)
    assert await ids(completions, first, metadata={"all": "2"}) == ([], False)
    with pytest.raises(InvalidRequest, match="'c5' is in this list"):
        await ids(completions, Cut(after="c5"), metadata={"only4": "ä"})


async def test_an_update_replaces_and_keeps_for_as_long_again(
    completions: Completions, clock: Clock
) -> None:
    await completions.add("t", "m", completion("a", old="1", both="1"), [])
    clock.now_s += 50
    assert await completions.update("t", "a", {"both": "2"}) == completion("a", both="2")
    clock.now_s += 50
    assert await completions.get("t", "a") == completion("a", both="2")
    assert await ids(completions, Cut(), metadata={"old": "1"}) == ([], False)
    assert await ids(completions, Cut(), metadata={"both": "2"}) == (["a"], False)
    await completions.update("t", "a", {})
    assert await ids(completions, Cut(), metadata={"both": "2"}) == ([], False)


async def test_what_is_deleted_is_gone_with_its_metadata(completions: Completions) -> None:
    await completions.add("t", "m", completion("a", k="v"), [])
    await completions.delete("t", "a")
    with pytest.raises(NotFound):
        await completions.get("t", "a")
    # Its room is free: the same could be kept again.
    await completions.add("t", "m", completion("a", k="w"), [])
    assert await ids(completions, Cut(), metadata={"k": "w"}) == (["a"], False)


async def test_an_id_that_no_text_can_have_is_the_clients_mistake(
    completions: Completions, database_url: str
) -> None:
    expected = NotFound if database_url.startswith("sqlite") else InvalidRequest
    with pytest.raises(expected):
        await completions.get("t", "a\0")
