"""Background responses: followed, cancelled, drained, and taken up by the next process."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from serve.admission.authenticate import Authenticator
from serve.core.errors import (
    Draining,
    EngineError,
    InvalidRequest,
    NotFound,
    Overloaded,
    StorageUnavailable,
)
from serve.core.roster import Roster
from serve.respond import background as module
from serve.respond.background import Background
from serve.respond.runs import Run
from tests.respond.rig import JSON, WHO, Rig, Script, asked, chunk, events_of, said


async def submit(rig: Rig, background: Background, hex_: str = "a" * 32) -> tuple[JSON, Run]:
    request = asked(background=True, custom_tools=frozenset({"x"}))
    return await background.submit(await rig.turns.prepare(request, WHO, f"req_{hex_}"))


async def read(background: Background, response_id: str, after: int = -1) -> list[JSON]:
    frames = await background.follow("default", response_id, after)
    async with asyncio.timeout(5):
        return events_of(b"".join([one async for one in frames]))


def body_of(rig: Rig, response_id: str) -> JSON:
    body: JSON = rig.responses.records[response_id].body
    return body


async def test_queued_then_done() -> None:
    rig = Rig(said("a", "b"))
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    assert body["status"] == body_of(rig, body["id"])["status"] == "queued"
    events = await read(background, body["id"])
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [e["type"] for e in events[:3]] == [
        "response.created", "response.queued", "response.in_progress",
    ]  # fmt: skip
    assert [e["response"]["status"] for e in events[:3]] == ["queued", "queued", "in_progress"]
    assert events[-1]["response"] == body_of(rig, body["id"])
    await run.ended.wait()
    assert rig.responses.records[body["id"]].request is None
    assert await read(background, body["id"]) == events
    assert await read(background, body["id"], 4) == events[5:]


async def test_followers_wait_for_what_comes() -> None:
    gate = asyncio.Event()
    script = said("a", "b")
    rig = Rig([*script[:2], gate, *script[2:]])
    background = Background(rig.turns)
    body, _ = await submit(rig, background)
    frames = await background.follow("default", body["id"], -1)
    async for one in frames:
        if b'"delta":"a"' in one:
            break
    gate.set()
    rest = events_of(b"".join([one async for one in frames]))
    assert rest[0]["delta"] == "b"
    assert rest[-1]["type"] == "response.completed"


async def test_nothing_is_shown_before_it_is_kept() -> None:
    rig = Rig(said("a"))
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    seen = 0
    async for _ in run.follow(-1):
        seen = len(run.frames)
        assert len(rig.responses.kept[body["id"]]) >= seen
    assert seen == len(rig.responses.kept[body["id"]])


async def test_who_cannot_follow() -> None:
    rig = Rig(said("a"))
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    with pytest.raises(NotFound):
        await background.follow("other", body["id"], -1)
    with pytest.raises(InvalidRequest):
        await background.follow("default", body["id"], 50)
    await run.ended.wait()
    with pytest.raises(InvalidRequest) as caught:
        await background.follow("default", body["id"], 50)
    assert caught.value.param == "starting_after"


@pytest.mark.parametrize("wait_s", [0.0, 0.01])
async def test_cancel_at_any_moment(wait_s: float) -> None:
    rig = Rig([chunk(content="a"), asyncio.Event()])
    background = Background(rig.turns)
    body, _ = await submit(rig, background)
    if wait_s:
        await asyncio.sleep(wait_s)
    with pytest.raises(InvalidRequest, match="not completed"):
        background.check_ended("default", body["id"])
    background.check_ended("other", body["id"])
    async with asyncio.timeout(5):
        final = await background.cancel("default", body["id"])
    assert final["status"] == "cancelled"
    assert await background.cancel("default", body["id"]) == final
    events = await read(background, body["id"])
    assert events[-1]["code"] == "response_cancelled"
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    with pytest.raises(NotFound):
        await background.cancel("other", body["id"])


async def test_a_cancel_that_comes_at_the_end_changes_nothing() -> None:
    rig = Rig(said("a"))
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    for _ in range(100):
        if run.turn.settling:
            break
        await asyncio.sleep(0)
    assert (await background.cancel("default", body["id"]))["status"] == "completed"


async def test_deleting_ends_it() -> None:
    rig = Rig([chunk(content="a"), asyncio.Event()])
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    await background.delete("default", body["id"])
    assert run.ended.is_set()
    assert not rig.responses.records


async def test_bounds() -> None:
    rig = Rig([asyncio.Event()])
    background = Background(rig.turns, running_max=1, waiting_max=2)
    first, _ = await submit(rig, background, "1" * 32)
    second, _ = await submit(rig, background, "2" * 32)
    await asyncio.sleep(0.01)
    assert body_of(rig, first["id"])["status"] == "in_progress"
    assert body_of(rig, second["id"])["status"] == "queued"
    with pytest.raises(Overloaded):
        await submit(rig, background, "3" * 32)
    await background.close()
    with pytest.raises(Draining):
        await submit(rig, background, "4" * 32)


async def test_a_failure_is_its_end() -> None:
    scripts: list[Script] = [[EngineError("gone")], [chunk(content="a"), EngineError("gone")]]
    for script in scripts:
        rig = Rig(script)
        background = Background(rig.turns)
        body, _ = await submit(rig, background)
        events = await read(background, body["id"])
        assert events[-1]["type"] == "response.failed"
        assert body_of(rig, body["id"])["error"]["message"] == "gone"


async def test_a_full_queue_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_AFTER_S", 0.01)
    rig = Rig([Overloaded("full")], said("a"))
    background = Background(rig.turns)
    body, _ = await submit(rig, background)
    assert (await read(background, body["id"]))[-1]["type"] == "response.completed"


async def test_storage_that_fails_lets_nobody_hang() -> None:
    gate = asyncio.Event()
    script = said("a", "b")
    rig = Rig([*script[:2], gate, *script[2:]])
    background = Background(rig.turns)
    _, run = await submit(rig, background)
    await asyncio.sleep(0.01)
    rig.responses.down = True
    gate.set()
    async with asyncio.timeout(5):
        events = events_of(b"".join([one async for one in run.follow(-1)]))
    assert events[-1]["type"] == "response.failed"
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    with pytest.raises(StorageUnavailable):
        await submit(rig, background, "b" * 32)


async def ended_in_the_middle(rig: Rig) -> str:
    """A process that goes away without a word; what it had kept stays."""
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    await asyncio.sleep(0.01)
    kept = dict(rig.responses.records), {k: list(v) for k, v in rig.responses.kept.items()}
    assert run.task is not None
    run.task.cancel()
    await run.ended.wait()
    rig.responses.records, rig.responses.kept = kept
    found: str = body["id"]
    return found


async def test_one_without_output_is_run_again_under_the_same_numbers() -> None:
    rig = Rig([asyncio.Event()], said("a"))
    response_id = await ended_in_the_middle(rig)
    before = [e.sequence_number for e in rig.responses.kept[response_id]]
    assert before == [0, 1, 2]
    background = Background(rig.again())
    await background.resume()
    events = await read(background, response_id)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [e["type"] for e in events].count("response.in_progress") == 1
    assert events[-1]["response"] == body_of(rig, response_id)
    assert body_of(rig, response_id)["status"] == "completed"
    assert rig.pipeline.calls[0].body == rig.pipeline.calls[1].body


async def test_one_with_output_ends_failed() -> None:
    rig = Rig([*said("a")[:2], asyncio.Event()])
    response_id = await ended_in_the_middle(rig)
    background = Background(rig.again())
    await background.resume()
    body = body_of(rig, response_id)
    assert body["status"] == "failed"
    events = await read(background, response_id)
    assert events[-1]["response"] == body
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert not await rig.responses.take_over()


async def test_one_whose_end_had_been_told_ends_so() -> None:
    rig = Rig(said("a"))
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    await run.ended.wait()
    record = rig.responses.records[body["id"]]
    stale = {**record.body, "status": "in_progress"}
    rig.responses.records[body["id"]] = replace(record, body=stale)
    await Background(rig.again()).resume()
    assert body_of(rig, body["id"]) == record.body


async def test_an_end_that_was_kept_but_not_told_is_told() -> None:
    rig = Rig(said("a"))
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    await run.ended.wait()
    whole = await read(background, body["id"])
    rig.responses.kept[body["id"]].pop()
    assert await read(background, body["id"]) == whole


async def test_one_that_cannot_be_run_any_more_ends_failed() -> None:
    for change in ({"asked": {"model": "gone"}}, {}):
        rig = Rig([asyncio.Event()])
        response_id = await ended_in_the_middle(rig)
        record = rig.responses.records[response_id]
        request: Any = dict(record.request or {})
        request = request | {"asked": request["asked"] | change["asked"]} if change else {}
        rig.responses.records[response_id] = replace(record, request=request)
        await Background(rig.again()).resume()
        assert body_of(rig, response_id)["status"] == "failed"


async def test_one_whose_key_was_revoked_meanwhile_ends_failed() -> None:
    rig = Rig([asyncio.Event()])
    response_id = await ended_in_the_middle(rig)
    turns = rig.again()
    turns.pipeline.keys = Authenticator(Roster(1))
    await Background(turns).resume()
    assert body_of(rig, response_id)["status"] == "failed"
    assert "good no more" in body_of(rig, response_id)["error"]["message"]


async def test_draining_leaves_what_nobody_has_seen_to_the_next_process() -> None:
    rig = Rig([asyncio.Event()], said("a"))
    background = Background(rig.turns)
    body, _ = await submit(rig, background)
    await asyncio.sleep(0.01)
    following = asyncio.create_task(read(background, body["id"]))
    await asyncio.sleep(0)
    await background.close()
    assert (await following)[-1]["type"] == "response.in_progress"
    assert body_of(rig, body["id"])["status"] == "in_progress"
    later = Background(rig.again())
    await later.resume()
    assert (await read(later, body["id"]))[-1]["type"] == "response.completed"


async def test_the_drains_deadline_fails_what_has_begun() -> None:
    gate = asyncio.Event()
    rig = Rig([chunk(content="a"), gate, Draining("stopping")], [Draining("stopping")])
    background = Background(rig.turns)
    begun, _ = await submit(rig, background, "1" * 32)
    fresh, run = await submit(rig, background, "2" * 32)
    gate.set()
    await run.ended.wait()
    assert (await read(background, begun["id"]))[-1]["type"] == "response.failed"
    assert body_of(rig, fresh["id"])["status"] == "in_progress"


async def first_output(run: Run) -> None:
    async for _ in run.follow(-1):
        if run.produced:
            return


async def test_one_that_is_deleted_elsewhere_stops_and_does_not_come_back() -> None:
    begun = asyncio.Event()
    rig = Rig([*said("a")[:2], begun, *said("b")[2:]])
    background = Background(rig.turns)
    body, run = await submit(rig, background)
    await first_output(run)
    await rig.responses.delete(WHO.tenant, body["id"])
    begun.set()
    await run.ended.wait()
    assert run.dropped or run.turn.gone
    assert body["id"] not in rig.responses.records
    assert body["id"] not in rig.responses.kept


async def test_the_runs_of_one_tenant_are_dropped_without_a_trace() -> None:
    rig = Rig([*said("a")[:2], asyncio.Event()])
    background = Background(rig.turns, running_max=1)
    runs = [(await submit(rig, background, digit * 32))[1] for digit in "abc"]
    await first_output(runs[0])
    before = dict(rig.responses.kept)
    assert await background.drop("another") == 0
    assert await background.drop(WHO.tenant) == 3
    assert all(run.ended.is_set() for run in runs)
    assert {name: len(events) for name, events in rig.responses.kept.items()} == {
        name: len(events) for name, events in before.items()
    }
