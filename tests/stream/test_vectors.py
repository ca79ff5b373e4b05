"""Embeddings of an engine as the hosted API's list."""

import base64
import math
import random
import struct
from typing import Any

import orjson
import pytest
from openai.types import CreateEmbeddingResponse

from serve.core.errors import EngineError
from serve.engines.fake import vectors as fake
from serve.stream.answer import Shape
from serve.stream.vectors import ASKED, PART_NUMBERS, embedding_answer, in_numbers


def shape(choices: int) -> Shape:
    return Shape(id="cmpl-1", model="m-1", fingerprint="fp", created=1, choices=choices)


def engine_answer(texts: list[str]) -> dict[str, Any]:
    return fake.embeddings({"model": "engine", "input": texts, **ASKED})


def encoded(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def with_vectors(*found: Any) -> dict[str, Any]:
    data = [{"index": i, "object": "embedding", "embedding": one} for i, one in enumerate(found)]
    return {"data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def test_an_answer_holds_the_hosted_api_s_fields_and_no_others() -> None:
    answer, usage = embedding_answer(engine_answer(["a b", "c"]), shape(2))
    numbers = orjson.loads(b"".join(in_numbers(answer)))
    parsed = CreateEmbeddingResponse.model_validate(numbers)
    assert not parsed.model_extra
    assert not parsed.usage.model_extra
    assert not any(one.model_extra for one in parsed.data)
    assert (parsed.model, parsed.usage.prompt_tokens, parsed.usage.total_tokens) == ("m-1", 3, 3)
    assert (usage.prompt, usage.completion) == (3, 0)
    assert numbers.keys() == answer.keys()


def test_numbers_are_the_bytes_to_the_last_bit() -> None:
    rng = random.Random(7)
    drawn = [rng.uniform(-1, 1) * 10 ** rng.randint(-40, 30) for _ in range(500)]
    answer, _ = embedding_answer(with_vectors(encoded(*drawn)), shape(1))
    numbers = orjson.loads(b"".join(in_numbers(answer)))["data"][0]["embedding"]
    assert struct.pack("<500f", *numbers) == struct.pack("<500f", *drawn)
    assert answer["data"][0]["embedding"] == encoded(*drawn)


def test_inputs_that_come_out_of_order_are_put_in_it() -> None:
    engine = engine_answer(["a", "b", "c"])
    expected, _ = embedding_answer(engine, shape(3))
    engine["data"].reverse()
    assert embedding_answer(engine, shape(3))[0] == expected


@pytest.mark.parametrize("count", [1, 85, 86, 300])
def test_parts_make_up_one_answer_each_of_a_bounded_size(count: int) -> None:
    answer, _ = embedding_answer(engine_answer([f"t{i}" for i in range(count)]), shape(count))
    parts = list(in_numbers(answer))
    assert len(parts) == math.ceil(count / (PART_NUMBERS // 384)) + 1
    data = orjson.loads(b"".join(parts))["data"]
    assert [one["index"] for one in data] == list(range(count))
    assert all(one["embedding"] == fake.vector_of(f"t{i}").tolist() for i, one in enumerate(data))


@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"data": None},
        with_vectors(encoded(1)),
        with_vectors(encoded(1), encoded(1, 2)),
        with_vectors(encoded(1), [1.0]),
        with_vectors([1.0], [1.0]),
        with_vectors("", ""),
        {"data": [{"index": 0, "embedding": encoded(1)}, {"index": 0, "embedding": encoded(1)}]},
        {"data": [{"index": 1, "embedding": encoded(1)}, {"index": 2, "embedding": encoded(1)}]},
    ],
)
def test_what_is_no_whole_answer_is_the_engine_s_error(engine: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        embedding_answer(engine, shape(2))


@pytest.mark.parametrize(
    "vector", ["????", "AAA=", encoded(math.nan, 1), encoded(math.inf, -math.inf)]
)
def test_a_damaged_vector_is_the_engine_s_error(vector: str) -> None:
    answer, _ = embedding_answer(with_vectors(vector), shape(1))
    with pytest.raises(EngineError):
        list(in_numbers(answer))
