"""`/v1/responses/compact` with the openai SDK."""

import openai
import pytest

from tests.conftest import Gateway


@pytest.fixture(scope="module")
def sdk(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


def test_a_compacted_conversation_is_gone_on_from(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model="fake", input="remember the number 7")
    second = sdk.responses.create(
        model="fake", input="and the number 8", previous_response_id=first.id
    )
    compacted = sdk.responses.compact(model="fake", previous_response_id=second.id)
    assert compacted.object == "response.compaction"
    said = [one for one in compacted.output if one.type == "message"]
    assert len(said) == 2
    assert "number 7" in str(said[0].content)
    assert compacted.output[-1].type == "compaction"
    assert compacted.usage.output_tokens > 0
    carried = [one.model_dump(exclude_none=True, warnings=False) for one in compacted.output]
    question = {"role": "user", "content": "which numbers?"}
    alone = sdk.responses.create(model="fake", input=[question])  # type: ignore[list-item]  # a dict will do
    after = sdk.responses.create(model="fake", input=[*carried, question])  # type: ignore[list-item]  # likewise
    assert alone.usage is not None
    assert after.usage is not None
    assert after.usage.input_tokens > alone.usage.input_tokens


def test_what_cannot_be_compacted(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.compact(model="fake", previous_response_id="resp_none")
    assert refused.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(
            model="fake",
            input=[{"type": "compaction", "encrypted_content": "gAAAA-of-another-server"}],
        )
    assert refused.value.param == "input[0].encrypted_content"
