"""Real weights through `/v1/messages` and the anthropic SDK."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.conftest import Gateway

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

# As greedy as it gets; the SDK no longer has `temperature` among its parameters.
GREEDY: Any = {"extra_body": {"temperature": 0}}
PARIS: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather of a city.",
    "strict": True,
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def claude(real: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=real.url, api_key=real.key, max_retries=0, timeout=300
    ) as client:
        yield client


def test_paris_counted_streamed_and_whole(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "small", "messages": PARIS, "system": "Be short."}
    # More than the whole context: an upper bound, as agents mean it.
    whole = claude.messages.create(**asked, max_tokens=20_000, **GREEDY)
    with claude.messages.stream(**asked, max_tokens=20_000, **GREEDY) as stream:
        streamed = stream.get_final_message()
    (block,) = whole.content
    assert block.type == "text"
    assert "Paris" in block.text
    assert whole.stop_reason == "end_turn"
    assert whole.model == "smollm2-135m-2026-11-01"
    assert [one.model_dump() for one in streamed.content] == [block.model_dump()]
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    counted = claude.messages.count_tokens(**asked)
    for usage in (whole.usage, streamed.usage):
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted.input_tokens


def test_a_tool_s_round_trip(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "small", "tools": [WEATHER], "max_tokens": 200, **GREEDY}
    forced = claude.messages.create(**asked, messages=PARIS, tool_choice={"type": "any"})
    assert forced.stop_reason == "tool_use"
    content: list[Any] = list(forced.content)
    call = content[-1]
    assert call.name == "weather"
    assert isinstance(call.input["city"], str)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It rains."}
    turns: Any = [
        *PARIS,
        {"role": "assistant", "content": content},
        {"role": "user", "content": [result]},
    ]
    counted = claude.messages.count_tokens(model="small", messages=turns, tools=[WEATHER])
    with claude.messages.stream(**asked, messages=turns, tool_choice={"type": "none"}) as stream:
        last = stream.get_final_message()
    assert last.stop_reason in ("end_turn", "max_tokens")
    usage = last.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted.input_tokens


def test_stop_sequence_and_prefill(claude: anthropic.Anthropic) -> None:
    begun: Any = [*PARIS, {"role": "assistant", "content": "The capital of France is"}]
    answer = claude.messages.create(
        model="small", messages=begun, max_tokens=20, stop_sequences=["."], **GREEDY
    )
    (block,) = answer.content
    assert block.type == "text"
    assert block.text.lstrip().startswith("Paris")
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", ".")


def test_a_prompt_beyond_the_context(claude: anthropic.Anthropic) -> None:
    for words in (9000, 8190):  # the second only with the template's own tokens
        long: Any = [{"role": "user", "content": "word " * words}]
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
            claude.messages.create(model="small", messages=long, max_tokens=5, stream=True)
