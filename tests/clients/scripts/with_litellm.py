"""LiteLLM's SDK: chat, responses, embeddings, and Anthropic's messages."""

import json
from typing import Any

import litellm
from checks import CALL, JSON, KEY, SAID, URL, V1, run
from pydantic import BaseModel

litellm.telemetry = False
OPENAI: dict[str, Any] = {"model": "openai/fake", "api_base": V1, "api_key": KEY, "num_retries": 0}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def check_completion() -> None:
    answer = litellm.completion(messages=[user("fake:tokens=9")], max_tokens=3, **OPENAI)
    assert answer.choices[0].message.content == "w0 w1 w2"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def check_stream() -> None:
    options = {"include_usage": True}
    chunks = list(
        litellm.completion(
            messages=[user("fake:tokens=4")], stream=True, stream_options=options, **OPENAI
        )
    )
    whole = litellm.stream_chunk_builder(chunks)
    assert whole.choices[0].message.content == "w0 w1 w2 w3"
    assert whole.usage.completion_tokens == 4


def check_tools() -> None:
    messages: list[Any] = [user(CALL)]
    answer = litellm.completion(messages=messages, tools=[TOOL], **OPENAI)
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Bern"}
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": SAID}]
    answer = litellm.completion(messages=messages, tools=[TOOL], **OPENAI)
    assert answer.choices[0].message.content == "It is sunny."


def check_structured() -> None:
    answer = litellm.completion(messages=[user(JSON)], response_format=Report, **OPENAI)
    found = Report.model_validate_json(answer.choices[0].message.content)
    assert found == Report(city="Bern", degrees=21)


def check_reasoning() -> None:
    answer = litellm.completion(messages=[user("fake:think=2 fake:tokens=1")], **OPENAI)
    assert answer.choices[0].message.content == "w0"
    assert answer.choices[0].message.reasoning_content == "t0 t1"


def check_refusal_is_a_bad_request() -> None:
    try:
        litellm.completion(messages=[user("x")], temperature=9, **OPENAI)
    except litellm.BadRequestError as error:
        assert "temperature" in str(error)
    else:
        raise AssertionError("a temperature of 9 was taken")


def check_embedding() -> None:
    found = litellm.embedding(
        model="openai/vectors", input=["a cat", "a dog"], api_base=V1, api_key=KEY
    )
    assert [len(one["embedding"]) for one in found.data] == [384, 384]


def check_responses() -> None:
    answer = litellm.responses(input="fake:tokens=3", **OPENAI)
    assert answer.output[-1].content[0].text == "w0 w1 w2"
    assert answer.usage.output_tokens == 3


def check_responses_stream() -> None:
    events = list(litellm.responses(input="fake:tokens=3", stream=True, **OPENAI))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == "w0 w1 w2"
    assert events[-1].type == "response.completed"


def check_responses_tools() -> None:
    tool = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}
    answer = litellm.responses(input=CALL, tools=[tool], **OPENAI)
    (call,) = (item for item in answer.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Bern"})
    output = {"type": "function_call_output", "call_id": call.call_id, "output": SAID}
    answer = litellm.responses(
        input=[output], tools=[tool], previous_response_id=answer.id, **OPENAI
    )
    assert answer.output[-1].content[0].text == "It is sunny."


def check_anthropic_completion() -> None:
    answer = litellm.completion(
        model="anthropic/fake",
        api_base=URL,
        api_key=KEY,
        messages=[user("fake:tokens=3")],
        max_tokens=100,
    )
    assert answer.choices[0].message.content == "w0 w1 w2"
    assert answer.usage.completion_tokens == 3


async def check_anthropic_messages() -> None:
    answer = await litellm.anthropic.messages.acreate(
        model="anthropic/fake",
        api_base=URL,
        api_key=KEY,
        messages=[user("fake:tokens=3")],
        max_tokens=100,
    )
    assert answer["content"][0]["text"] == "w0 w1 w2"
    assert answer["stop_reason"] == "end_turn"


run(globals())
