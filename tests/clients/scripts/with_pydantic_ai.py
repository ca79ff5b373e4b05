"""pydantic-ai over chat completions and over responses."""

from typing import Any

from checks import CALL, JSON, KEY, SAID, V1, run
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput, ToolOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

PROVIDER = OpenAIProvider(base_url=V1, api_key=KEY)
CHAT = OpenAIChatModel("fake", provider=PROVIDER)
RESPONSES = OpenAIResponsesModel("fake", provider=PROVIDER)


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


async def says(model: Any) -> None:
    agent = Agent(model, system_prompt="Be brief.", model_settings={"max_tokens": 50})
    answer = await agent.run("fake:tokens=3")
    assert answer.output == "w0 w1 w2"
    assert answer.usage.output_tokens == 3
    more = await agent.run("fake:say=Again.", message_history=answer.all_messages())
    assert more.output == "Again."


async def streams(model: Any) -> None:
    async with Agent(model).run_stream("fake:tokens=4") as answer:
        parts = [part async for part in answer.stream_text(delta=True, debounce_by=None)]
    assert len(parts) > 2
    assert "".join(parts) == "w0 w1 w2 w3"
    assert answer.usage.output_tokens == 4


async def calls(model: Any) -> None:
    asked = []
    agent = Agent(model)

    @agent.tool_plain
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        asked.append(city)
        return SAID

    answer = await agent.run(CALL)
    assert (asked, answer.output) == (["Bern"], "It is sunny.")
    async with agent.run_stream(CALL) as streamed:
        assert await streamed.get_output() == "It is sunny."
    assert asked == ["Bern", "Bern"]


async def holds_to_a_tool(model: Any) -> None:
    agent = Agent(model, output_type=ToolOutput(Report))
    answer = await agent.run('fake:arguments={"city":"Bern","degrees":21}')
    assert answer.output == Report(city="Bern", degrees=21)


async def holds_to_a_tool_after_a_call(model: Any) -> None:
    agent = Agent(model, output_type=ToolOutput(Report))

    @agent.tool_plain
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        return 'fake:call=final_result fake:arguments={"city":"Bern","degrees":21}'

    assert (await agent.run(CALL)).output == Report(city="Bern", degrees=21)


async def holds_to_a_schema(model: Any) -> None:
    agent = Agent(model, output_type=NativeOutput(Report))
    assert (await agent.run(JSON)).output == Report(city="Bern", degrees=21)


async def thinks(model: Any) -> None:
    answer = await Agent(model).run("fake:think=2 fake:tokens=1")
    assert answer.output == "w0"
    (thought,) = (
        part for part in answer.all_messages()[-1].parts if isinstance(part, ThinkingPart)
    )
    shown = (thought.provider_details or {}).get("raw_content", [thought.content])
    assert shown == ["t0 t1"]
    # What was thought goes back with the history.
    more = await Agent(model).run("fake:say=Again.", message_history=answer.all_messages())
    assert more.output == "Again."


async def check_chat() -> None:
    await says(CHAT)


async def check_chat_stream() -> None:
    await streams(CHAT)


async def check_chat_tools() -> None:
    await calls(CHAT)


async def check_chat_structured_by_tool() -> None:
    await holds_to_a_tool(CHAT)


async def check_chat_structured_by_tool_after_a_call() -> None:
    await holds_to_a_tool_after_a_call(CHAT)


async def check_chat_structured_by_schema() -> None:
    await holds_to_a_schema(CHAT)


async def check_chat_thinking() -> None:
    await thinks(CHAT)


async def check_responses() -> None:
    await says(RESPONSES)


async def check_responses_stream() -> None:
    await streams(RESPONSES)


async def check_responses_tools() -> None:
    await calls(RESPONSES)


async def check_responses_structured_by_tool() -> None:
    await holds_to_a_tool(RESPONSES)


async def check_responses_structured_by_tool_after_a_call() -> None:
    await holds_to_a_tool_after_a_call(RESPONSES)


async def check_responses_structured_by_schema() -> None:
    await holds_to_a_schema(RESPONSES)


async def check_responses_thinking() -> None:
    await thinks(RESPONSES)


async def check_embeddings() -> None:
    embedder = Embedder(OpenAIEmbeddingModel("vectors", provider=PROVIDER))
    found = await embedder.embed_documents(["a cat", "a dog"])
    assert [len(one) for one in found.embeddings] == [384, 384]


run(globals())
