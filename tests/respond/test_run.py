"""One turn: what is refused before it, what is kept of it, how it ends."""

import asyncio
from typing import Any

import pytest

from serve.core.errors import (
    ContextLengthExceeded,
    EngineError,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    StorageUnavailable,
)
from serve.respond.asked import Asked
from serve.respond.run import Silent
from serve.respond.turn import Turn
from tests.respond.rig import (
    JSON,
    RESPONSE_HEX,
    WHO,
    Collected,
    Rig,
    asked,
    chunk,
    events_of,
    said,
    user,
)

ID = f"resp_{RESPONSE_HEX}"


async def prepared(rig: Rig, request: Asked, name: str = RESPONSE_HEX) -> Turn:
    return await rig.turns.prepare(request, WHO, f"req_{name}")


async def run(rig: Rig, request: Asked, name: str = RESPONSE_HEX) -> JSON:
    return await rig.turns.run(await prepared(rig, request, name), Silent())


def call_of(name: str, call_id: str = "c1") -> JSON:
    return {"id": f"fc_{call_id}", "type": "function_call", "status": "completed",
            "call_id": call_id, "name": name, "arguments": "{}"}  # fmt: skip


def output_of(call_id: str, text: str) -> JSON:
    return {"id": f"fco_{call_id}", "type": "function_call_output", "status": "completed",
            "call_id": call_id, "output": text}  # fmt: skip


async def test_the_engine_is_asked_a_chat() -> None:
    rig = Rig(said("a"))
    final = await run(rig, asked(instructions="Be brief.", max_output_tokens=9))
    call = rig.pipeline.calls[0]
    assert call.path == "/v1/chat/completions"
    assert call.endpoint == "responses"
    assert call.body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert call.body["messages"][1]["role"] == "user"
    assert (call.body["max_completion_tokens"], call.body["model"]) == (9, "m")
    assert (final["id"], final["model"], final["instructions"]) == (ID, "m-1", "Be brief.")
    assert final["usage"]["total_tokens"] == 12


async def test_the_record_is_there_before_the_end_is_told() -> None:
    rig = Rig(said("a"))

    class Looking(Collected):
        async def write(self, frames: bytes) -> None:
            if b"response.completed" in frames:
                assert ID in rig.responses.records
            await super().write(frames)

    sink = Looking()
    final = await rig.turns.run(await prepared(rig, asked()), sink)
    record = rig.responses.records[ID]
    assert record.body == final == events_of(sink.data)[-1]["response"]
    assert record.items == asked().items
    assert record.expires_s is not None
    assert record.request is None


async def test_the_history_comes_first() -> None:
    rig = Rig(said("a1"), said("a2"))
    await run(rig, asked(user("q1")))
    await run(rig, asked(user("q2"), previous_response_id=ID), "f" * 32)
    contents = [m["content"] for m in rig.pipeline.calls[1].body["messages"]]
    assert contents == ["q1", "a1", "q2"]
    assert rig.responses.records["resp_" + "f" * 32].previous_id == ID


async def test_a_conversation_gets_both_sides() -> None:
    rig = Rig(said("a"))
    rig.conversations.all["conv_1"] = [user("before", "msg_0")]
    final = await run(rig, asked(user("q"), conversation="conv_1", store=False))
    assert [i["id"] for i in rig.conversations.all["conv_1"]] == [
        "msg_0", "msg_in", final["output"][0]["id"],
    ]  # fmt: skip
    assert not rig.responses.records
    with pytest.raises(InvalidRequest, match="in this conversation already"):
        await run(rig, asked(user("again", "msg_in"), conversation="conv_1"))


async def test_what_is_not_there_is_refused() -> None:
    rig = Rig(said("a"))
    with pytest.raises(InvalidRequest, match="Previous response") as caught:
        await run(rig, asked(previous_response_id="resp_no"))
    assert caught.value.code == "previous_response_not_found"
    with pytest.raises(NotFound, match="Conversation"):
        await run(rig, asked(conversation="conv_no"))
    with pytest.raises(InvalidRequest, match="Item with id 'x' not found"):
        await run(rig, asked({"type": "item_reference", "id": "x"}))
    with pytest.raises(ModelNotFound):
        await run(rig, Asked("other", (user("x"),), {}, {}))
    assert not rig.pipeline.calls


async def test_a_reference_to_what_is_in_the_history_adds_nothing() -> None:
    rig = Rig(said("a"), said("b"))
    first = await run(rig, asked())
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    request = asked(reference, user("q", "msg_2"), previous_response_id=ID)
    turn = await prepared(rig, request, "e" * 32)
    assert [i["id"] for i in turn.items] == ["msg_2"]
    alone = await prepared(rig, asked(reference, user("q", "msg_2")), "d" * 32)
    assert alone.items[0] == first["output"][0]


async def test_a_failure_before_output_is_raised_and_nothing_is_kept() -> None:
    rig = Rig([chunk(role="assistant"), EngineError("gone")])
    with pytest.raises(EngineError):
        await rig.turns.run(await prepared(rig, asked()), Collected())
    assert not rig.responses.records


async def test_a_later_one_is_the_end() -> None:
    rig = Rig([chunk(content="half"), EngineError("gone")])
    rig.conversations.all["conv_1"] = []
    sink = Collected()
    turn = await prepared(rig, asked(conversation="conv_1"))
    final = await rig.turns.run(turn, sink)
    assert events_of(sink.data)[-1] == {
        "type": "response.failed", "sequence_number": 8, "response": final,
    }  # fmt: skip
    assert final["error"] == {"code": "server_error", "message": "gone"}
    assert final["output"][0]["status"] == "incomplete"
    assert rig.responses.records[ID].body == final
    assert rig.conversations.all["conv_1"] == []


async def test_a_failure_after_a_comment_has_its_beginning_too() -> None:
    rig = Rig([EngineError("gone")])
    sink = Collected()
    await sink.comment(b": loading\n\n")
    await rig.turns.run(await prepared(rig, asked()), sink)
    assert [e["type"] for e in events_of(sink.data)] == [
        "response.created", "response.in_progress", "response.failed",
    ]  # fmt: skip


async def test_what_cannot_be_kept_has_not_succeeded() -> None:
    rig = Rig(said("a"))
    rig.responses.down = True
    with pytest.raises(StorageUnavailable):
        await run(rig, asked())
    sink = Collected()
    final = await rig.turns.run(await prepared(rig, asked()), sink)
    assert final["status"] == "failed"
    assert events_of(sink.data)[-1]["type"] == "response.failed"
    assert (await run(rig, asked(store=False)))["status"] == "completed"


async def test_a_bug_ends_a_stream_in_words_fit_for_a_client() -> None:
    wrong: Any = [chunk(content="a"), RuntimeErrorStep()]
    rig = Rig(wrong)
    sink = Collected()
    final = await rig.turns.run(await prepared(rig, asked()), sink)
    assert final["error"]["message"].startswith("this server failed")


class RuntimeErrorStep(asyncio.Event):
    """A step of a script that is a bug."""

    async def wait(self) -> Any:
        raise RuntimeError("secret")


async def test_a_client_that_leaves_leaves_nothing() -> None:
    rig = Rig([chunk(content="a"), asyncio.Event()])
    task = asyncio.create_task(rig.turns.run(await prepared(rig, asked()), Collected()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not rig.responses.records


async def test_truncation_drops_the_oldest_and_what_hangs_on_it() -> None:
    too_long = ContextLengthExceeded("too long", param="input")
    rig = Rig([too_long], [too_long], said("a"))
    items = (
        call_of("f"), output_of("c1", "r"), *(user(f"m{i}", f"msg_{i}") for i in range(6)),
    )  # fmt: skip
    await run(rig, asked(*items, truncate=True))
    asked_for = [[m["content"] for m in c.body["messages"]] for c in rig.pipeline.calls]
    assert asked_for[1] == ["m0", "m1", "m2", "m3", "m4", "m5"]
    assert asked_for[2] == ["m1", "m2", "m3", "m4", "m5"]
    assert len(rig.responses.records[ID].items) == 8
    rig = Rig([too_long])
    with pytest.raises(ContextLengthExceeded):
        await run(rig, asked(*items))
    assert len(rig.pipeline.calls) == 1
    with pytest.raises(ContextLengthExceeded):
        await run(rig, asked(*items, truncate=True))
