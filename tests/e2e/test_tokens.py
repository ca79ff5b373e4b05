"""The tokenizer and the chat template of a real model."""

from typing import Any

import openai
import pytest

from tests.conftest import Gateway

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

MODEL = "small"
HI: list[Any] = [{"role": "user", "content": "Hi"}]


def tokens_of(gateway: Gateway, **body: Any) -> list[int]:
    answer = gateway.client.post("/tokenize", json={"model": MODEL, **body})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["count"] == len(found["tokens"])
    tokens: list[int] = found["tokens"]
    return tokens


def test_a_chat_has_the_tokens_that_its_answer_is_charged(
    real: Gateway, sdk: openai.OpenAI
) -> None:
    answer = sdk.chat.completions.create(model=MODEL, messages=HI, max_completion_tokens=1)
    assert answer.usage is not None
    assert len(tokens_of(real, messages=HI)) == answer.usage.prompt_tokens


def test_a_text_comes_back_from_its_tokens(real: Gateway) -> None:
    tokens = tokens_of(real, prompt="Hello, wörld!")
    answer = real.client.post("/detokenize", json={"model": MODEL, "tokens": tokens})
    assert answer.json() == {"prompt": "Hello, wörld!"}


def test_a_model_that_generates_makes_no_embeddings(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.embeddings.create(model=MODEL, input="a")
    assert (refused.value.param, refused.value.code) == ("model", "unsupported_model")
