"""Batches and their lines, in both databases."""

import asyncio
from typing import Any

import pytest

from serve.core.errors import NotFound, Overloaded
from serve.state.batches import Batches, BatchRecord, Line, Result
from serve.state.files import FileRecord
from serve.state.page import Cut
from serve.store.database import Database

NOW_S = 1_000_000.0


@pytest.fixture
def batches(database: Database) -> Batches:
    return Batches(database, lambda _: 60.0, lambda: NOW_S)


def record(name: str, **change: Any) -> BatchRecord:
    values: dict[str, Any] = {
        "id": name, "tenant": "t", "created_s": NOW_S, "expires_s": None, "status": "validating",
        "key": "k", "deadline_s": NOW_S + 9, "output_keep_s": None, "total": 0, "completed": 0,
        "failed": 0, "body": {"id": name, "object": "batch"},
    }  # fmt: skip
    return BatchRecord(**{**values, **change})


def lines(count: int) -> list[Line]:
    return [Line(number, f"l{number}", number * 100, 90) for number in range(1, count + 1)]


async def test_a_batch_moves_from_state_to_state(batches: Batches, database: Database) -> None:
    await batches.add(record("a"), 10)
    moved = await batches.move(
        "a", ("validating",), "in_progress", total=7, changes={"in_progress_at": 5}
    )
    assert moved is not None
    assert moved == await batches.get("t", "a")
    assert moved.shown == {
        "id": "a", "object": "batch", "status": "in_progress", "in_progress_at": 5,
        "request_counts": {"total": 7, "completed": 0, "failed": 0},
    }  # fmt: skip
    assert await batches.move("a", ("validating",), "failed") is None
    assert (await batches.find("a")).status == "in_progress"
    file = FileRecord("file-x", "t", NOW_S, None, "batch_output", "o", 1, "sha256:0")
    done = await batches.move("a", ("in_progress",), "completed", results=[file])
    assert done is not None
    assert done.expires_s == NOW_S + 60
    with pytest.raises(NotFound):
        await batches.move("none", ("validating",), "failed")


async def test_a_tenant_has_so_many(batches: Batches) -> None:
    await batches.add(record("a"), 2)
    await batches.add(record("b"), 2)
    await batches.add(record("of another", tenant="u"), 2)
    with pytest.raises(Overloaded, match=r"batches\.unfinished"):
        await batches.add(record("c"), 2)
    await batches.move("a", ("validating",), "failed")
    await batches.add(record("c"), 2)
    assert [one for one, _ in await batches.orphans()] == ["b", "of another", "c"]
    assert [one.id for one in await batches.latest(3)] == ["c", "of another", "b"]
    page = await batches.page("t", Cut(limit=2))
    assert ([one.id for one in page.batches], page.has_more) == (["c", "b"], True)
    for tenant, name in (("u", "a"), ("t", "none")):
        with pytest.raises(NotFound, match="No batch found"):
            await batches.get(tenant, name)


async def test_a_line_is_counted_once(batches: Batches) -> None:
    await batches.add(record("a"), 9)
    await batches.put_lines("a", lines(5))
    assert await batches.to_run("a", 0, 2) == lines(2)
    told = await asyncio.gather(
        *(batches.settle("a", 2, failed=False, result=b"%d" % n) for n in range(8)),
        batches.settle("a", 3, failed=True, result=b"x"),
    )
    assert sorted(told) == [False] * 7 + [True] * 2
    assert [one.number for one in await batches.to_run("a", 0)] == [1, 4, 5]
    assert [one.number for one in await batches.to_run("a", 4)] == [5]
    found = await batches.find("a")
    assert (found.completed, found.failed) == (1, 1)
    results = await batches.results("a", 1)
    assert [one.failed for one in results] == [False, True, False, False]
    assert results[2] == Result(4, "l4", False, None)
    assert await batches.settle("gone", 1, failed=False, result=b"x") is False


async def test_lines_may_be_put_again_and_are_forgotten(batches: Batches) -> None:
    await batches.add(record("a"), 9)
    await batches.add(record("b"), 9)
    await batches.put_lines("a", lines(2500))
    await batches.put_lines("a", lines(2300))
    await batches.put_lines("b", lines(3))
    assert len(await batches.to_run("a", 0, 10_000)) == 2300
    await batches.move("a", ("validating",), "cancelled")
    await batches.forget_lines()
    assert await batches.results("a", 0) == []
    assert len(await batches.results("b", 0)) == 3
