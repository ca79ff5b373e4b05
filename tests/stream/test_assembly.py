"""What is put together from a stream is what the same answer is unstreamed."""

from typing import Any

from openai.types.chat import ChatCompletion

from serve.stream.answer import JSON, chat_answer
from serve.stream.assembly import AssembledChunks
from serve.stream.sse import DONE
from tests.stream.test_chunks import delta, event, shape

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def assembled(*choices: dict[str, Any], **changes: Any) -> JSON:
    chunks = AssembledChunks(shape(**changes))
    chunks.feed([*(event(one) for one in choices), event(usage=USAGE), DONE])
    assert chunks.failure is None
    assert chunks.finished
    return chunks.answer()


def whole(*choices: dict[str, Any], **changes: Any) -> JSON:
    engine = {"choices": list(choices), "usage": USAGE}
    return chat_answer(engine, shape(**changes))[0]


def message(finish: str = "stop", index: int = 0, **fields: Any) -> dict[str, Any]:
    logprobs = fields.pop("logprobs", None)
    said = {"role": "assistant", "content": None, **fields}
    return {"index": index, "message": said, "logprobs": logprobs, "finish_reason": finish}


def test_text_and_reasoning() -> None:
    found = assembled(
        delta(role="assistant", content=""),
        delta(reasoning="So "),
        delta(reasoning="be it."),
        delta(content="Par"),
        delta(content="is", finish="stop"),
    )
    assert found == whole(message(content="Paris", reasoning="So be it."))
    ChatCompletion.model_validate(found, strict=True)


def test_nothing_but_reasoning_and_nothing_at_all() -> None:
    found = assembled(delta(role="assistant", content=""), delta(reasoning="So", finish="length"))
    assert found == whole(message("length", reasoning="So"))
    found = assembled(delta(role="assistant", content="", finish="stop"))
    assert found == whole(message(content=""))


def test_choices_that_come_in_turns() -> None:
    found = assembled(
        delta(1, role="assistant", content="b"),
        delta(0, role="assistant", content="a"),
        delta(1, content="B", finish="length"),
        delta(0, content="A", finish="stop"),
        choices=2,
    )
    assert found == whole(
        message(content="aA"), message("length", 1, content="bB"), choices=2
    )  # fmt: skip


def call(index: int, arguments: str, name: str | None = None) -> dict[str, Any]:
    first = {} if name is None else {"id": f"call_{index}", "type": "function"}
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return {"index": index, "function": function, **first}


def test_tool_calls_with_and_without_strictness() -> None:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        for n in (0, 1)
    ]
    for strict in ({}, {"f": {"type": "object", "required": ["a"]}}):
        found = assembled(
            delta(role="assistant", content=""),
            delta(tool_calls=[call(0, "", "f")]),
            delta(tool_calls=[call(0, '{"a":')]),
            delta(tool_calls=[call(0, " 1}")]),
            delta(tool_calls=[call(1, '{"a": 1}', "f")], finish="tool_calls"),
            strict_tools=strict,
        )
        assert found == whole(message("tool_calls", tool_calls=calls), strict_tools=strict)
    ChatCompletion.model_validate(found, strict=True)


def test_logprobs_of_all_tokens_and_metadata() -> None:
    def token(text: str) -> dict[str, Any]:
        return {"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}

    first = delta(role="assistant", content="a") | {"logprobs": {"content": [token("a")]}}
    last = delta(content="b", finish="stop") | {"logprobs": {"content": [token("b")]}}
    echo = {"metadata": {"k": "v"}}
    found = assembled(first, last, echo=echo)
    logprobs = {"content": [token("a"), token("b")]}
    assert found == whole(message(content="ab", logprobs=logprobs), echo=echo)
