"""LangChain over chat completions, over responses, and its embeddings."""

from typing import Any

from checks import CALL, JSON, KEY, SAID, V1, run
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city}: {SAID}"


def model(**more: Any) -> ChatOpenAI:
    return ChatOpenAI(model="fake", base_url=V1, api_key=KEY, max_retries=0, **more)


def check_chat() -> None:
    answer = model(temperature=0, max_tokens=3).invoke("hello fake:tokens=9")
    assert answer.content == "w0 w1 w2"
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.usage_metadata["output_tokens"] == 3


def check_stream() -> None:
    whole = AIMessageChunk("")
    chunks = list(model(stream_usage=True).stream("hello fake:tokens=4"))
    for chunk in chunks:
        whole += chunk
    assert len(chunks) > 4
    assert whole.content == "w0 w1 w2 w3"
    assert whole.usage_metadata["output_tokens"] == 4


def tools(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools([weather])
    asked = HumanMessage(CALL)
    first = bound.invoke([asked])
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Bern"})
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert bound.invoke([asked, first, result]).text == "It is sunny."
    streamed = AIMessageChunk("")
    for chunk in bound.stream([asked]):
        streamed += chunk
    assert streamed.tool_calls[0]["args"] == {"city": "Bern"}


def check_tools() -> None:
    tools(model())


def check_structured_by_schema() -> None:
    bound = model().with_structured_output(Report, method="json_schema")
    assert bound.invoke(JSON) == Report(city="Bern", degrees=21)


def check_structured_by_json_mode() -> None:
    bound = model().with_structured_output(Report, method="json_mode")
    assert bound.invoke(JSON) == Report(city="Bern", degrees=21)


def check_structured_by_tool() -> None:
    bound = model().with_structured_output(Report, method="function_calling")
    found = bound.invoke('fake:arguments={"city":"Bern","degrees":21}')
    assert found == Report(city="Bern", degrees=21)


def check_responses() -> None:
    answer = model(use_responses_api=True).invoke("hello fake:tokens=3")
    assert answer.text == "w0 w1 w2"
    assert answer.response_metadata["id"].startswith("resp_")
    assert answer.usage_metadata["output_tokens"] == 3


def check_responses_go_on() -> None:
    chat = model(use_responses_api=True, store=True, use_previous_response_id=True)
    first = HumanMessage("fake:say=One_and_one.")
    answer = chat.invoke([first])
    assert answer.text == "One and one."
    assert chat.invoke([first, answer, HumanMessage("fake:say=Two.")]).text == "Two."


def check_responses_stream() -> None:
    whole = AIMessageChunk("")
    for chunk in model(use_responses_api=True).stream("fake:tokens=4"):
        whole += chunk
    assert whole.text == "w0 w1 w2 w3"
    assert whole.usage_metadata["output_tokens"] == 4


def check_responses_tools() -> None:
    tools(model(use_responses_api=True))


def check_responses_structured() -> None:
    bound = model(use_responses_api=True).with_structured_output(Report, method="json_schema")
    assert bound.invoke(JSON) == Report(city="Bern", degrees=21)


def check_responses_reasoning() -> None:
    chat = model(use_responses_api=True, reasoning={"effort": "low", "summary": "auto"})
    answer = chat.invoke("fake:think=2 fake:tokens=1")
    assert answer.text == "w0"
    assert any(block["type"] == "reasoning" for block in answer.content)


def check_embeddings() -> None:
    found = OpenAIEmbeddings(
        model="vectors", base_url=V1, api_key=KEY, check_embedding_ctx_length=False
    ).embed_documents(["a cat", "a dog", "a cat"])
    assert [len(one) for one in found] == [384] * 3
    assert found[0] == found[2] != found[1]


run(globals())
