"""The rounds of a turn: what the model is given, what this server calls, and how it ends."""

import asyncio
from typing import Any

import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serve.core.errors import EngineError, InvalidRequest, Overloaded, RequestError
from serve.respond.asked import Asked
from serve.respond.run import Silent
from serve.respond.turn import Turn
from serve.toolservers.records import Terms, tool_error
from tests.respond.rig import (
    JSON,
    RESPONSE_HEX,
    WHO,
    Collected,
    Rig,
    asked,
    call_chunk,
    chunk,
    events_of,
    said,
    usage_chunk,
    user,
)

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
RESPONSE = TypeAdapter(Response)
ID = f"resp_{RESPONSE_HEX}"
DESK: JSON = {"type": "mcp", "server_label": "desk", "require_approval": "never"}
ASKING: JSON = {**DESK, "require_approval": "always"}


def calling(*calls: tuple[str, str], finish: str = "tool_calls") -> list[bytes]:
    """A whole answer that calls these tools."""
    return [
        *(call_chunk(place, arguments, name) for place, (name, arguments) in enumerate(calls)),
        chunk(finish),
        usage_chunk(),
        b"[DONE]",
    ]


async def add(a: int = 1, b: int = 1) -> str:
    return f"the sum is {a + b}"


async def fail() -> str:
    raise tool_error("no such thing")


def rig_of(*scripts: Any) -> Rig:
    rig = Rig(*scripts)
    rig.tools.servers["desk"] = {"add": add, "fail": fail, "get": add}
    return rig


async def prepared(rig: Rig, request: Asked, name: str = RESPONSE_HEX) -> Turn:
    return await rig.turns.prepare(request, WHO, f"req_{name}")


async def run(rig: Rig, request: Asked, name: str = RESPONSE_HEX) -> JSON:
    final = await rig.turns.run(await prepared(rig, request, name), Silent())
    RESPONSE.validate_json(orjson.dumps(final), strict=True)
    return final


async def streamed(rig: Rig, request: Asked, name: str = RESPONSE_HEX) -> list[JSON]:
    """The events, each valid and numbered; their items are those of the final object."""
    sink = Collected()
    await rig.turns.run(await prepared(rig, request, name), sink)
    events = events_of(sink.data)
    for event in events:
        EVENT.validate_json(orjson.dumps(event), strict=True)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    done = [e for e in events if e["type"] == "response.output_item.done"]
    done.sort(key=lambda e: int(e["output_index"]))
    assert [e["item"] for e in done] == events[-1]["response"]["output"]
    assert [e["output_index"] for e in done] == list(range(len(done)))
    return events


def kinds(output: list[JSON]) -> list[str]:
    return [item["type"] for item in output]


def offered(rig: Rig, call: int = 0) -> list[str]:
    return [one["function"]["name"] for one in rig.pipeline.calls[call].body.get("tools", ())]


async def test_a_call_and_what_the_model_makes_of_it() -> None:
    rig = rig_of(calling(("desk__add", '{"a": 2}')), said("three"))
    final = await run(rig, asked(user("sum?"), server_tools=(DESK,)))
    listed, call, message = final["output"]
    assert [one["name"] for one in listed["tools"]] == ["add", "fail", "get"]
    assert (call["output"], call["status"], call["error"]) == ("the sum is 3", "completed", None)
    assert message["content"][0]["text"] == "three"
    assert final["usage"]["total_tokens"] == 24
    assert [c.tool for c in rig.tools.calls] == ["add"]
    first, second = rig.pipeline.calls
    assert (first.body["tool_choice"], offered(rig)) == (
        "auto",
        ["desk__add", "desk__fail", "desk__get"],
    )
    assert second.body["messages"][: len(first.body["messages"])] == first.body["messages"]
    assert second.body["messages"][-1] == {
        "role": "tool", "tool_call_id": call["id"], "content": "the sum is 3",
    }  # fmt: skip
    assert rig.responses.records[ID].body == final


async def test_its_events() -> None:
    rig = rig_of(calling(("desk__add", '{"a": 2}')), said("three"))
    events = await streamed(rig, asked(server_tools=(DESK,)))
    item = events[-1]["response"]["output"][1]["id"]
    assert [e["type"].removeprefix("response.") for e in events if e.get("item_id") == item] == [
        "mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done",
        "mcp_call.completed",
    ]  # fmt: skip
    assert [e["type"].removeprefix("response.") for e in events][:6] == [
        "created", "in_progress", "output_item.added", "mcp_list_tools.in_progress",
        "mcp_list_tools.completed", "output_item.done",
    ]  # fmt: skip


async def test_nothing_is_told_before_the_model_speaks() -> None:
    """So that an engine that refuses is a status, and one that dies is tried again."""
    rig = rig_of([chunk(role="assistant"), EngineError("gone")])
    sink = Collected()
    with pytest.raises(EngineError):
        await rig.turns.run(await prepared(rig, asked(server_tools=(DESK,))), sink)
    assert sink.data == b""
    assert not rig.responses.records


async def test_a_turn_that_is_begun_again_lists_once() -> None:
    rig = rig_of([chunk(role="assistant"), Overloaded("full")], said("a"))
    turn = await prepared(rig, asked(server_tools=(DESK,)))
    with pytest.raises(Overloaded):
        await rig.turns.run(turn, Silent())
    sink = Collected()
    await rig.turns.run(turn, sink)
    events = events_of(sink.data)
    assert kinds(events[-1]["response"]["output"]) == ["mcp_list_tools", "message"]
    assert [e["sequence_number"] for e in events] == list(range(len(events)))


async def test_a_tool_that_fails_is_told_to_the_model() -> None:
    rig = rig_of(calling(("desk__fail", "{}")), said("sorry"))
    events = await streamed(rig, asked(server_tools=(DESK,)))
    call = events[-1]["response"]["output"][1]
    assert (call["status"], call["output"]) == ("failed", None)
    assert call["error"]["type"] == "mcp_tool_execution_error"
    assert "response.mcp_call.failed" in [e["type"] for e in events]
    assert rig.pipeline.calls[1].body["messages"][-1]["content"] == "Error: no such thing"
    assert events[-1]["type"] == "response.completed"


async def test_arguments_that_are_none_are_told_to_the_model() -> None:
    rig = rig_of(calling(("desk__add", '{"a": 2')), said("sorry"))
    events = await streamed(rig, asked(server_tools=(DESK,)))
    call = events[-1]["response"]["output"][1]
    assert (call["status"], call["arguments"]) == ("failed", '{"a": 2')
    assert call["error"]["message"] == "not called: the arguments are no JSON object"
    told = rig.pipeline.calls[1].body["messages"][-2]["tool_calls"][0]["function"]
    assert told == {"name": "desk__add", "arguments": "{}"}
    assert (rig.tools.calls, len(rig.tools.not_made)) == ([], 1)


async def test_calls_of_one_round_are_made_at_once() -> None:
    rig = rig_of(calling(("desk__slow", "{}"), ("desk__quick", "{}")), said("both"))
    met = asyncio.Event()

    async def slow() -> str:
        await met.wait()
        await asyncio.sleep(0.01)
        return "slow"

    async def quick() -> str:
        met.set()
        return "quick"

    rig.tools.servers["desk"] = {"slow": slow, "quick": quick}
    events = await streamed(rig, asked(server_tools=(DESK,)))
    assert [item["output"] for item in events[-1]["response"]["output"][1:3]] == ["slow", "quick"]
    ends = [e["output_index"] for e in events if e["type"] == "response.mcp_call.completed"]
    assert ends == [2, 1]


async def test_beside_the_clients_own_functions() -> None:
    """The server's are made, then the turn is the client's."""
    own = {"type": "function", "function": {"name": "mine", "parameters": {}}}
    rig = rig_of(calling(("mine", "{}"), ("desk__add", "{}")))
    request = Asked("m", (user("x"),), {"tools": [own]}, dict(asked().echo), server_tools=(DESK,))
    final = await run(rig, request)
    assert kinds(final["output"]) == ["mcp_list_tools", "function_call", "mcp_call"]
    assert final["output"][2]["output"] == "the sum is 2"
    assert (len(rig.pipeline.calls), final["status"]) == (1, "completed")
    assert offered(rig) == ["mine", "desk__add", "desk__fail", "desk__get"]
    answer = {"id": "fco_1", "type": "function_call_output", "status": "completed",
              "call_id": final["output"][1]["call_id"], "output": "ok"}  # fmt: skip
    rig.pipeline.scripts = [said("done")]
    await run(rig, asked(answer, previous_response_id=ID), "e" * 32)
    roles = [m["role"] for m in rig.pipeline.calls[1].body["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]


async def test_the_bound_of_the_request() -> None:
    rig = rig_of(calling(("desk__add", "{}"), ("desk__add", "{}")), said("enough"))
    final = await run(rig, asked(server_tools=(DESK,), max_tool_calls=1))
    first, second = final["output"][1:3]
    assert (first["status"], second["status"]) == ("completed", "failed")
    assert "max_tool_calls" in second["error"]["message"]
    assert (len(rig.tools.calls), len(rig.tools.not_made)) == (1, 1)
    assert rig.pipeline.calls[1].body.get("tool_choice") in (None, "none")


async def test_the_bound_of_the_site_ends_a_model_that_does_not() -> None:
    rig = rig_of(*[calling(("desk__add", "{}"))] * 4, said("enough"))
    rig.tools.on["desk"] = Terms(max_calls=3)
    final = await run(rig, asked(server_tools=(DESK,)))
    assert kinds(final["output"]).count("mcp_call") == 4
    assert (len(rig.tools.calls), len(rig.tools.not_made)) == (3, 1)
    assert len(rig.pipeline.calls) == 5


async def test_the_next_turn_begins_with_the_same_prompt() -> None:
    rig = rig_of(calling(("desk__add", '{"a": 2}')), said("three"))
    await run(rig, asked(server_tools=(DESK,)))
    again = asked(user("q", "msg_2"), previous_response_id=ID, server_tools=(DESK,))
    await run(rig, again, "a" * 32)
    _, second, third = (call.body for call in rig.pipeline.calls)
    assert third["messages"][: len(second["messages"])] == second["messages"]
    assert third["tools"] == second["tools"]


async def test_what_is_listed_and_what_is_allowed() -> None:
    rig = rig_of(said("a"))
    await run(rig, asked(server_tools=({**DESK, "allowed_tools": ["fail"]},)))
    await run(rig, asked(server_tools=({**DESK, "allowed_tools": {"read_only": True}},)), "a" * 32)
    assert [offered(rig, n) for n in (0, 1)] == [["desk__fail"], ["desk__get"]]


async def test_a_list_is_shown_once() -> None:
    rig = rig_of(said("a"))
    await run(rig, asked(server_tools=(DESK,)))
    again = asked(user("q", "msg_2"), previous_response_id=ID, server_tools=(DESK,))
    assert offered(rig) == ["desk__add", "desk__fail", "desk__get"]
    assert kinds((await run(rig, again, "a" * 32))["output"]) == ["message"]
    rig.tools.servers["desk"]["more"] = add
    assert kinds((await run(rig, again, "b" * 32))["output"]) == ["mcp_list_tools", "message"]


async def test_a_server_that_cannot_be_asked() -> None:
    rig = rig_of(said("without"))
    rig.tools.gone.add("desk")
    events = await streamed(rig, asked(server_tools=(DESK,)))
    listed = events[-1]["response"]["output"][0]
    assert (listed["tools"], listed["error"]) == ([], "'desk' cannot be reached")
    assert "response.mcp_list_tools.failed" in [e["type"] for e in events]
    assert "tools" not in rig.pipeline.calls[0].body
    with pytest.raises(RequestError, match="none of the tools"):
        await run(rig, asked(server_tools=(DESK,), choice="required"), "a" * 32)


@pytest.mark.parametrize(
    ("choice", "sent", "shown"),
    [
        ("required", "required", ["desk__add", "desk__fail", "desk__get"]),
        ({"type": "mcp", "server_label": "desk", "name": None}, "required",
         ["desk__add", "desk__fail", "desk__get"]),
        ({"type": "mcp", "server_label": "desk", "name": "add"},
         {"type": "function", "function": {"name": "desk__add"}},
         ["desk__add", "desk__fail", "desk__get"]),
        ("none", "none", ["desk__add", "desk__fail", "desk__get"]),
    ],
)  # fmt: skip
async def test_a_choice_is_of_the_first_call(choice: Any, sent: Any, shown: list[str]) -> None:
    rig = rig_of(calling(("desk__add", "{}")), said("a"))
    await run(rig, asked(server_tools=(DESK,), choice=choice))
    assert rig.pipeline.calls[0].body["tool_choice"] == sent
    assert offered(rig) == shown
    assert rig.pipeline.calls[1].body["tool_choice"] == ("none" if choice == "none" else "auto")


async def test_a_call_waits_for_the_client() -> None:
    rig = rig_of(calling(("desk__add", '{"a": 4}')), said("five"))
    events = await streamed(rig, asked(server_tools=(ASKING,)))
    assert kinds(events[-1]["response"]["output"]) == ["mcp_list_tools", "mcp_approval_request"]
    request = events[-1]["response"]["output"][1]
    assert (request["name"], request["arguments"]) == ("add", '{"a": 4}')
    assert not rig.tools.calls
    answer = {"id": "mcpa_1", "type": "mcp_approval_response", "reason": None,
              "approval_request_id": request["id"], "approve": True}  # fmt: skip
    again = asked(answer, previous_response_id=ID, server_tools=(ASKING,))
    events = await streamed(rig, again, "a" * 32)
    call, message = events[-1]["response"]["output"]
    assert (call["output"], call["approval_request_id"]) == ("the sum is 5", request["id"])
    assert message["content"][0]["text"] == "five"
    roles = [m["role"] for m in rig.pipeline.calls[1].body["messages"]]
    assert roles == ["user", "assistant", "tool"]
    with pytest.raises(InvalidRequest, match="not offered"):
        await run(rig, asked(answer, previous_response_id=ID), "b" * 32)
    # Who keeps the conversation sends everything again: nothing is called twice.
    everything = (*asked().items, request, answer, call, user("and?", "msg_2"))
    await run(rig, asked(*everything, server_tools=(ASKING,)), "c" * 32)
    assert len(rig.tools.calls) == 1


async def test_a_call_that_the_client_refuses() -> None:
    rig = rig_of(calling(("desk__add", "{}")), said("fine"))
    request = (await run(rig, asked(server_tools=(ASKING,))))["output"][1]
    answer = {"id": "mcpa_1", "type": "mcp_approval_response", "reason": "too dear",
              "approval_request_id": request["id"], "approve": False}  # fmt: skip
    final = await run(rig, asked(answer, previous_response_id=ID, server_tools=(ASKING,)), "a" * 32)
    assert kinds(final["output"]) == ["message"]
    told = rig.pipeline.calls[1].body["messages"][-1]["content"]
    assert told == "Error: the user did not allow this call. The reason: too dear"
    assert not rig.tools.calls
    stray = {**answer, "approval_request_id": "mcpr_none"}
    with pytest.raises(InvalidRequest, match="No approval request found"):
        await run(rig, asked(stray, server_tools=(ASKING,)), "b" * 32)


async def test_approval_by_filters() -> None:
    rig = rig_of(calling(("desk__add", "{}"), ("desk__get", "{}")))
    some = {**DESK, "require_approval": {"never": {"read_only": True}}}
    final = await run(rig, asked(server_tools=(some,)))
    assert kinds(final["output"])[1:] == ["mcp_approval_request", "mcp_call"]
    assert [c.tool for c in rig.tools.calls] == ["get"]


async def test_an_answer_that_is_cut_makes_no_calls() -> None:
    rig = rig_of(calling(("desk__add", "{}"), ("desk__add", '{"a'), finish="length"))
    events = await streamed(rig, asked(server_tools=(DESK,)))
    final = events[-1]["response"]
    assert final["status"] == "incomplete"
    assert [item["status"] for item in final["output"][1:]] == ["incomplete", "incomplete"]
    assert not rig.tools.calls


async def test_the_bound_on_tokens_is_for_all_rounds() -> None:
    rig = rig_of(calling(("desk__add", "{}")), said("a"))
    final = await run(rig, asked(server_tools=(DESK,), max_output_tokens=10))
    assert [c.body["max_completion_tokens"] for c in rig.pipeline.calls] == [10, 3]
    assert final["status"] == "completed"
    rig = rig_of(calling(("desk__add", "{}")))
    final = await run(rig, asked(server_tools=(DESK,), max_output_tokens=7))
    assert (final["status"], final["incomplete_details"]["reason"]) == (
        "incomplete", "max_output_tokens",
    )  # fmt: skip
    assert kinds(final["output"]) == ["mcp_list_tools", "mcp_call"]


async def test_a_later_failure_keeps_what_was_called() -> None:
    rig = rig_of(calling(("desk__add", "{}")), [EngineError("gone")])
    events = await streamed(rig, asked(server_tools=(DESK,)))
    final = events[-1]["response"]
    assert (final["status"], kinds(final["output"])) == ("failed", ["mcp_list_tools", "mcp_call"])
    assert rig.responses.records[ID].body == final


async def test_who_has_made_calls_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.respond.rounds.AGAIN_AFTER_S", 0.001)
    rig = rig_of(calling(("desk__add", "{}")), [Overloaded("full")], said("a"))
    final = await run(rig, asked(server_tools=(DESK,)))
    assert (final["status"], len(rig.tools.calls)) == ("completed", 1)


async def test_a_cancelled_turn_ends_its_calls() -> None:
    rig = rig_of(calling(("desk__slow", "{}")))
    ended = asyncio.Event()
    began = asyncio.Event()

    async def slow() -> str:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return ""

    rig.tools.servers["desk"] = {"slow": slow}
    turn = await prepared(rig, asked(server_tools=(DESK,)))
    task = asyncio.create_task(rig.turns.run(turn, Collected()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    cancelled = turn.answer.cancelled()
    assert cancelled["output"][1]["status"] == "incomplete"


async def test_a_server_is_for_some_models() -> None:
    rig = rig_of(said("a"))
    rig.pipeline.served.names = ("m-1", "m")  # type: ignore[misc]
    rig.tools.on["desk"] = Terms(models=frozenset({"other"}))
    with pytest.raises(InvalidRequest, match="not for the model m-1"):
        await run(rig, asked(server_tools=(DESK,)))
    rig.tools.on["desk"] = Terms(models=frozenset({"m"}))
    assert (await run(rig, asked(server_tools=(DESK,))))["status"] == "completed"
    with pytest.raises(InvalidRequest, match="no tool server 'gone'"):
        await run(rig, asked(server_tools=({**DESK, "server_label": "gone"},)))
