"""`/v1/responses` over a real model."""

import json

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.conftest import Gateway

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_a_chain_and_its_count(sdk: openai.OpenAI) -> None:
    story = "Tell me of the sea. " * 30
    first = sdk.responses.create(
        model="small", input=story, instructions="Be brief.", max_output_tokens=24, temperature=0
    )
    assert first.status in ("completed", "incomplete")
    assert first.usage is not None
    counted = sdk.responses.input_tokens.count(model="small", input=story, instructions="Be brief.")
    assert counted.input_tokens == first.usage.input_tokens
    second = sdk.responses.create(
        model="small", input="Go on.", instructions="Be brief.", previous_response_id=first.id,
        max_output_tokens=16,
    )  # fmt: skip
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens * 0.8


def test_a_stream_is_its_object(real: Gateway) -> None:
    asked = {
        "model": "small", "input": "Count to five.", "stream": True, "max_output_tokens": 24,
        "temperature": 0, "include": ["message.output_text.logprobs"], "top_logprobs": 2,
    }  # fmt: skip
    text = real.client.post("/v1/responses", json=asked).text
    adapter: TypeAdapter[object] = TypeAdapter(ResponseStreamEvent)
    events = []
    for part in text.removesuffix("\n\n").split("\n\n"):
        data = part.partition("\ndata: ")[2]
        adapter.validate_json(data, strict=True)
        events.append(json.loads(data))
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    final = events[-1]["response"]
    TypeAdapter(Response).validate_json(json.dumps(final), strict=True)
    said = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    part = final["output"][0]["content"][0]
    assert part["text"] == said
    assert "".join(one["token"] for one in part["logprobs"]).startswith(said[:20])
    assert len(part["logprobs"][0]["top_logprobs"]) == 2
    assert real.client.get(f"/v1/responses/{final['id']}").json() == final


def test_structured_output_in_the_background(sdk: openai.OpenAI) -> None:
    schema = {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"], "additionalProperties": False,
    }  # fmt: skip
    asked = sdk.responses.create(
        model="small", input="Name a city.", background=True, max_output_tokens=60,
        text={"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}},
    )  # fmt: skip
    assert asked.status == "queued"
    for _ in sdk.responses.retrieve(asked.id, stream=True):
        pass
    ended = sdk.responses.retrieve(asked.id)
    assert ended.status == "completed"
    assert set(json.loads(ended.output_text)) == {"city"}
