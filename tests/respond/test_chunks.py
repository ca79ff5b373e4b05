"""An engine's chunks as events: whatever the cuts, the stream adds up to the final object."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serve.core.errors import EngineError
from serve.respond.chunks import AnswerChunks
from serve.respond.events import Answer
from serve.respond.sealed import unseal
from serve.stream.answer import Shape
from tests.respond.rig import JSON, RESPONSE_HEX, asked, call_chunk, chunk, events_of, usage_chunk

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
RESPONSE = TypeAdapter(Response)


class Session:
    """One answer, and the engine's calls that make it."""

    def __init__(self, **fields: Any) -> None:
        self.asked = asked(**fields)
        self.answer = Answer(self.asked, f"resp_{RESPONSE_HEX}", 1000.0)
        self.data = b""

    def chunks(self, **shape: Any) -> AnswerChunks:
        wanted = "message.output_text.logprobs" in self.asked.include
        return AnswerChunks(
            Shape("x", "m-1", "fp", 1, 1, **shape), self.answer, self.asked.custom_tools,
            self.asked.namespaces, {}, logprobs=wanted,
        )  # fmt: skip

    def feed(self, chunks: AnswerChunks, *payloads: bytes) -> None:
        for payload in payloads:
            self.data += chunks.feed([payload])
            if chunks.failure is not None:
                raise chunks.failure

    def call(self, *payloads: bytes, **shape: Any) -> None:
        self.answer.begin_call()
        self.feed(self.chunks(**shape), *payloads, usage_chunk(), b"[DONE]")

    def end(self) -> list[JSON]:
        final = self.answer.ended()
        self.answer.tell_end(final)
        self.data += self.answer.take()
        return checked(self.data)


def checked(data: bytes) -> list[JSON]:
    """The events, each valid; together they are what the last of them says."""
    events = events_of(data)
    for event in events:
        EVENT.validate_json(orjson.dumps(event), strict=True)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [e["type"] for e in events[:2]] == ["response.created", "response.in_progress"]
    final = events[-1]["response"]
    assert events[-1]["type"] == f"response.{final['status']}"
    RESPONSE.validate_json(orjson.dumps(final), strict=True)
    assert final["output"] == rebuilt(events)
    return events


def rebuilt(events: list[JSON]) -> list[JSON]:
    """The output items, put together from the deltas alone and held against the `done` events."""
    texts: dict[int, str] = {}
    items: list[JSON] = []
    opened: int | None = None
    for event in events:
        kind, place = event["type"], int(event.get("output_index", -1))
        if kind == "response.output_item.added":
            assert opened is None
            assert place == len(items)
            opened, texts[place], began = place, "", event["item"]
        elif kind.endswith(".delta"):
            assert place == opened
            texts[place] += event["delta"]
        elif kind == "response.output_item.done":
            item = event["item"]
            assert place == opened
            assert {k: began[k] for k in ("id", "type")} == {k: item[k] for k in ("id", "type")}
            assert began.get("call_id") == item.get("call_id")
            assert text_of(item) == texts[place]
            items.append(item)
            opened = None
        elif kind.endswith(".done") and "part" not in event:
            said = event.get("text", event.get("arguments", event.get("input")))
            assert said == texts[place]
    assert opened is None
    return items


def text_of(item: JSON) -> str:
    found = item.get("arguments", item.get("input"))
    return str(item["content"][0]["text"] if found is None else found)


def output_of(events: list[JSON]) -> list[JSON]:
    found: list[JSON] = events[-1]["response"]["output"]
    return found


def cut(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(c, len(text)) for c in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


CUTS = st.lists(st.integers(0, 60), max_size=8)
ARGUMENTS = st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3)


@given(
    st.text(max_size=40), st.text(max_size=40),
    st.lists(st.tuples(st.sampled_from(["f", "strict", "run"]), ARGUMENTS), max_size=3), CUTS,
    st.sampled_from(["stop", "length"]),
)  # fmt: skip
@settings(deadline=None)
def test_streamed_is_the_final_object(
    thought: str, text: str, calls: list[tuple[str, JSON]], cuts: list[int], finish: str
) -> None:
    session = Session(custom_tools=frozenset({"run"}))
    payloads = [chunk(reasoning=part) for part in cut(thought, cuts)]
    payloads += [chunk(content=part) for part in cut(text, cuts)]
    for place, (name, arguments) in enumerate(calls):
        raw = orjson.dumps({"input": "x"} | arguments if name == "run" else arguments).decode()
        payloads.append(call_chunk(place, "", name))
        payloads += [call_chunk(place, part) for part in cut(raw, cuts)]
    session.call(*payloads, chunk(finish), strict_tools={"strict": {"type": "object"}})
    output = output_of(session.end())
    kinds = [item["type"] for item in output]
    assert kinds.count("function_call") == sum(name != "run" for name, _ in calls)
    assert kinds.count("custom_tool_call") == sum(name == "run" for name, _ in calls)
    assert kinds.count("reasoning") == bool(thought)
    if text and not text.isspace():
        assert text in [text_of(item) for item in output if item["type"] == "message"]
    statuses = {item["status"] for item in output}
    assert statuses <= ({"completed"} if finish == "stop" else {"completed", "incomplete"})


def test_calls_have_their_namespace_and_their_name_apart() -> None:
    spaces = {"sky__look": ("sky", "look"), "sky__note": ("sky", "note")}
    session = Session(custom_tools=frozenset({"sky__note"}), namespaces=spaces)
    payloads = [call_chunk(0, "", "sky__look"), call_chunk(0, "{}")]
    payloads += [call_chunk(1, "", "sky__note"), call_chunk(1, '{"input":"x"}')]
    session.call(*payloads, chunk("tool_calls"))
    found = [(one["type"], one["namespace"], one["name"]) for one in output_of(session.end())]
    assert found == [("function_call", "sky", "look"), ("custom_tool_call", "sky", "note")]


def test_nothing_is_sent_before_there_is_output() -> None:
    session = Session()
    chunks = session.chunks()
    session.feed(chunks, chunk(role="assistant", content=""))
    assert session.data == b""
    session.feed(chunks, chunk(content="a"))
    assert len(events_of(session.data)) == 5


def test_what_a_lost_engine_had_begun_is_taken_back() -> None:
    session = Session()
    session.chunks().feed([chunk(reasoning="never sent"), chunk(content="nor this")])
    session.feed(session.chunks(), chunk(content="said"), chunk("stop"), usage_chunk(), b"[DONE]")
    assert [text_of(item) for item in output_of(session.end())] == ["said"]


def test_several_calls_make_one_response() -> None:
    session = Session()
    session.call(chunk(content="one"), chunk("stop"))
    session.call(chunk(content="two"), chunk("stop"))
    events = session.end()
    assert [text_of(item) for item in output_of(events)] == ["one", "two"]
    assert events[-1]["response"]["usage"]["total_tokens"] == 24


def test_an_empty_answer_has_an_empty_message() -> None:
    session = Session()
    session.call(chunk(role="assistant", content=""), chunk("stop"))
    assert text_of(output_of(session.end())[0]) == ""


def test_whitespace_alone_is_said() -> None:
    session = Session()
    session.call(chunk(content="\n"), chunk(content="\n"), chunk("stop"))
    assert text_of(output_of(session.end())[0]) == "\n\n"


def test_whitespace_before_a_call_is_no_message() -> None:
    session = Session()
    session.call(chunk(content="\n\n"), call_chunk(0, "{}", "f"), chunk("tool_calls"))
    assert [item["type"] for item in output_of(session.end())] == ["function_call"]


def test_a_cut_call_is_incomplete() -> None:
    session = Session()
    session.call(call_chunk(0, '{"a', "f"), chunk("length"))
    final = session.end()[-1]["response"]
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (final["output"][0]["status"], final["output"][0]["arguments"]) == ("incomplete", '{"a')


def test_a_strict_call_that_breaks_its_schema_is_never_sent() -> None:
    session = Session()
    with pytest.raises(EngineError, match="schema"):
        session.call(
            call_chunk(0, '{"a": 1}', "strict"), chunk("tool_calls"),
            strict_tools={"strict": {"type": "object", "required": ["b"]}},
        )  # fmt: skip
    assert session.data == b""


def test_mixed_calls_are_an_error() -> None:
    with pytest.raises(EngineError, match="mixed"):
        Session().call(call_chunk(0, "{", "f"), call_chunk(1, "{", "g"), call_chunk(0, "}"))


def test_an_answer_that_was_aborted_is_an_error() -> None:
    session = Session()
    with pytest.raises(EngineError):
        session.call(chunk(content="a"), chunk("abort"))
    final = session.answer.failed(EngineError("gone"))
    session.answer.tell_end(final)
    session.data += session.answer.take()
    assert checked(session.data)[-1]["response"]["error"]["message"] == "gone"


def test_reasoning_is_sealed_where_it_is_asked_for() -> None:
    session = Session(include=frozenset({"reasoning.encrypted_content"}))
    session.call(chunk(reasoning="thought"), chunk(content="said"), chunk("stop"))
    assert unseal(output_of(session.end())[0]["encrypted_content"]) == "thought"


def test_logprobs_stay_with_their_text() -> None:
    session = Session(include=frozenset({"message.output_text.logprobs"}))

    def token(text: str) -> JSON:
        top = [{"token": text, "logprob": -1.0, "bytes": None}]
        return {"content": [{"token": text, "logprob": -1.0, "bytes": None, "top_logprobs": top}]}

    session.call(
        chunk(reasoning="t", logprobs=token("t")),
        chunk(content="", logprobs=token("é")),
        chunk(content="éa", logprobs=token("a")),
        chunk("stop", logprobs=token("<end>")),
    )
    events = session.end()
    found = output_of(events)[1]["content"][0]["logprobs"]
    assert [one["token"] for one in found] == ["é", "a"]
    assert found[0]["bytes"] == found[0]["top_logprobs"][0]["bytes"] == [195, 169]
