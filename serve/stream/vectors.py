"""Embeddings of an engine, turned into the hosted API's list, in either encoding.

The engine is always asked for base64, a quarter of the size of the numbers and read without
looking at one of them. A client that wants base64 is given the engine's own strings; for the
others the same bytes become numbers, so that both encodings are the same vectors to the last bit.
"""

import sys
from array import array
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Final

import orjson

from serve.core.errors import EngineError
from serve.core.usage import Usage
from serve.stream.answer import JSON, Shape

ASKED: Final = {"encoding_format": "base64", "endianness": "little"}
"""What the engine is asked for; the second is what its machine does anyway, nearly always."""

PART_NUMBERS: Final = 32_768
"""Numbers that are written at one go: about 2 ms."""


def embedding_answer(engine: JSON, shape: Shape) -> tuple[JSON, Usage]:
    """The list of embeddings, as base64, and its usage; one for each of `shape.choices` inputs.

    Raises EngineError where the engine's answer is not a clean, whole one.
    """
    data = engine.get("data")
    if type(data) is not list or len(data) != shape.choices:
        raise EngineError("the model's process answered with another number of embeddings")
    vectors = {one["index"]: one["embedding"] for one in data}
    sizes = {len(one) if type(one) is str else 0 for one in vectors.values()}
    if vectors.keys() != set(range(shape.choices)) or len(sizes) != 1 or 0 in sizes:
        raise EngineError("the model's process answered with something that is no embeddings")
    counted = Usage.of_engine(engine.get("usage") or {})
    usage = Usage(prompt=counted.prompt, cached=counted.cached)
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vectors[index]}
            for index in range(shape.choices)
        ],
        "model": shape.model,
        "usage": {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt},
    }
    return answer, usage


def in_numbers(answer: JSON) -> Iterator[bytes]:
    """The JSON of an answer of `embedding_answer` with numbers, in parts to be written in turn.

    A part takes little time, so that a caller can let others run between them. Raises EngineError
    where a vector cannot be read.
    """
    data: Sequence[JSON] = answer["data"]
    head, tail = orjson.dumps({**answer, "data": []}).split(b"[]", 1)
    each = max(1, PART_NUMBERS // max(1, len(data[0]["embedding"]) * 3 // 16))
    before = head + b"["
    for start in range(0, len(data), each):
        part = [{**one, "embedding": _numbers(one)} for one in data[start : start + each]]
        yield before + orjson.dumps(part)[1:-1]
        before = b","
    yield b"]" + tail


def _numbers(item: JSON) -> list[float]:
    numbers = array("f")
    try:
        numbers.frombytes(b64decode(item["embedding"], validate=True))
    except (Error, ValueError):
        raise EngineError("the model's process answered with a damaged embedding") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    if not isfinite(sum(numbers)):
        # JSON has no word for it.
        raise EngineError("the model's process made an embedding that holds no numbers")
    return numbers.tolist()
