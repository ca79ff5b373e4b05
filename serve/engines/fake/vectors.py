"""Embeddings, scores and tokens of a fake engine, as vLLM words them.

A text's vector is chosen by chance, the same one each time: equal texts are equal, others are
about at right angles.
"""

import math
import random
import sys
from array import array
from base64 import b64encode
from functools import lru_cache
from typing import Any, Final

SIZE: Final = 384
DIMENSIONS: Final = (64, 128, 256)
"""To which a vector can be cut, as `matryoshka_dimensions` says it of a model."""
REMEMBERED: Final = 16_384


class Unfit(Exception):
    """A request that vLLM answers with 400."""


def inputs_of(body: dict[str, Any]) -> list[str]:
    """The texts of a request for embeddings; token ids count as words."""
    inputs = body["input"]
    if isinstance(inputs, str):
        return [inputs]
    if isinstance(inputs[0], int):
        return [_text(inputs)]
    return [one if isinstance(one, str) else _text(one) for one in inputs]


def pairs_of(body: dict[str, Any]) -> list[tuple[str, str]]:
    """The texts of a request for scores, a pair for each."""
    second = body["text_2"] if "text_2" in body else body["documents"]
    first = body["text_1"] if "text_1" in body else [body["query"]]
    if len(first) == 1:
        first = first * len(second)
    return list(zip(first, second, strict=True))


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """The answer of `/v1/embeddings`; raises Unfit."""
    texts = inputs_of(body)
    size = _size(body)
    encode = _base64 if body.get("encoding_format") == "base64" else _numbers
    data = [
        {"index": index, "object": "embedding", "embedding": encode(vector_of(text, size))}
        for index, text in enumerate(texts)
    ]
    return {
        "id": "embd-fake",
        "object": "list",
        "created": 1,
        "model": body.get("model"),
        "data": data,
        "usage": usage_of(texts),
    }


def scores(body: dict[str, Any]) -> dict[str, Any]:
    """The answer of `/v1/score`."""
    pairs = pairs_of(body)
    data = [
        {"index": index, "object": "score", "score": _cosine(*pair)}
        for index, pair in enumerate(pairs)
    ]
    return {
        "id": "score-fake",
        "object": "list",
        "created": 1,
        "model": body.get("model"),
        "data": data,
        "usage": usage_of([" ".join(pair) for pair in pairs]),
    }


def ranking(body: dict[str, Any]) -> dict[str, Any]:
    """The answer of `/v1/rerank`."""
    pairs = pairs_of(body)
    results = [
        {
            "index": index,
            "document": {"text": pair[1], "multi_modal": None},
            "relevance_score": _cosine(*pair),
        }
        for index, pair in enumerate(pairs)
    ]
    results.sort(key=lambda one: float(str(one["relevance_score"])), reverse=True)
    usage = usage_of([" ".join(pair) for pair in pairs])
    return {
        "id": "score-fake",
        "model": body.get("model"),
        "usage": {name: usage[name] for name in ("prompt_tokens", "total_tokens")},
        "results": results[: body.get("top_n") or None],
    }


def tokenized(words: list[str], context_tokens: int, *, shown: bool = False) -> dict[str, Any]:
    """The answer of `/tokenize`."""
    return {
        "count": len(words),
        "max_model_len": context_tokens,
        "tokens": list(range(len(words))),
        "token_strs": words if shown else None,
    }


def detokenized(body: dict[str, Any]) -> dict[str, Any]:
    """The answer of `/detokenize`."""
    return {"prompt": _text(body["tokens"])}


def usage_of(texts: list[str]) -> dict[str, Any]:
    tokens = sum(max(1, len(text.split())) for text in texts)
    return {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
    }


@lru_cache(REMEMBERED)
def vector_of(text: str, size: int = SIZE) -> "array[float]":
    """A vector of length 1."""
    rng = random.Random(text)  # noqa: S311 - nothing is secret
    drawn = [rng.gauss(0, 1) for _ in range(size)]
    length = math.sqrt(sum(one * one for one in drawn))
    return array("f", [one / length for one in drawn])


def _size(body: dict[str, Any]) -> int:
    asked: int | None = body.get("dimensions")
    if asked is None:
        return SIZE
    if asked not in DIMENSIONS:
        raise Unfit(
            f"Model {body.get('model')!r} only supports Matryoshka dimensions "
            f"{list(DIMENSIONS)}, got {asked}."
        )
    return asked


def _base64(vector: "array[float]") -> str:
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return b64encode(vector.tobytes()).decode()


def _numbers(vector: "array[float]") -> list[float]:
    return vector.tolist()


def _cosine(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(vector_of(one), vector_of(other), strict=True))


def _text(tokens: list[int]) -> str:
    return " ".join(f"w{token}" for token in tokens)
