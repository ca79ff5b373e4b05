from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from serve.core.errors import EngineError
from serve.engines.fake import Knobs, script_of, unstreamed
from serve.stream.answer import Shape, chat_answer, completion_answer


def shape(choices: int = 1, **changes: Any) -> Shape:
    return Shape(
        id="chatcmpl-1", model="m", fingerprint="fp", created=1, choices=choices, **changes
    )


def engine_answer(**body: Any) -> dict[str, Any]:
    request = {"model": "m", "messages": [{"role": "user", "content": "a b c"}]} | body
    return unstreamed(script_of(request, Knobs(tokens=3)), "id", 1)


def test_a_chat_answer_holds_the_hosted_api_s_fields_and_no_others() -> None:
    answer, usage = chat_answer(engine_answer(), shape())
    parsed = ChatCompletion.model_validate(answer)
    assert not parsed.model_extra
    assert not parsed.choices[0].model_extra
    assert not parsed.choices[0].message.model_extra
    assert parsed.choices[0].message.content == "w0 w1 w2"
    assert (usage.prompt, usage.completion) == (3, 3)


def test_tool_calls() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    engine = engine_answer(tools=tools, tool_choice="required")
    parsed = ChatCompletion.model_validate(chat_answer(engine, shape())[0])
    calls = parsed.choices[0].message.tool_calls
    assert calls is not None
    assert parsed.choices[0].message.content is None
    assert parsed.choices[0].finish_reason == "tool_calls"


def test_missing_choices_are_an_error() -> None:
    with pytest.raises(EngineError, match="1 of 2"):
        chat_answer(engine_answer(), shape(choices=2))


def test_n_choices_count_once() -> None:
    answer, usage = chat_answer(engine_answer(n=4), shape(choices=4))
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert (usage.prompt, usage.completion) == (3, 12)


def test_a_completion_answer() -> None:
    engine = unstreamed(script_of({"prompt": "a b"}, Knobs(tokens=2)), "id", 1)
    parsed = Completion.model_validate(completion_answer(engine, shape())[0])
    assert not parsed.choices[0].model_extra
    assert parsed.choices[0].text == "w0 w1"
