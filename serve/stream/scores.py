"""Scores of an engine, turned into vLLM's lists: those of `/v1/score` and of `/v1/rerank`."""

from collections.abc import Sequence
from typing import Any

from serve.core.errors import EngineError
from serve.core.usage import Usage
from serve.stream.answer import JSON, Shape


def score_answer(engine: JSON, shape: Shape, *, answer_id: str) -> tuple[JSON, Usage]:
    """A score for each pair of texts, and the usage; raises EngineError for anything else."""
    scores: dict[int, float] = {one["index"]: one["score"] for one in _whole(engine, "data", shape)}
    if scores.keys() != set(range(shape.choices)):
        raise EngineError("the model's process answered with the scores of other texts")
    usage = _usage(engine)
    answer = {
        "id": answer_id,
        "object": "list",
        "created": shape.created,
        "model": shape.model,
        "data": [
            {"index": index, "object": "score", "score": scores[index]}
            for index in range(shape.choices)
        ],
        "usage": _tokens(usage),
    }
    return answer, usage


def rerank_answer(
    engine: JSON, shape: Shape, *, answer_id: str, documents: Sequence[str], shown: bool
) -> tuple[JSON, Usage]:
    """The documents' places, best first, and the usage; raises EngineError for anything else.

    The results repeat the documents where they are to be `shown`.
    """
    found = _whole(engine, "results", shape)
    places = [one["index"] for one in found]
    if len(set(places)) != len(places) or not set(places) <= set(range(len(documents))):
        raise EngineError("the model's process answered with the scores of other texts")
    results: list[JSON] = []
    for place, one in zip(places, found, strict=True):
        result = {"index": place, "relevance_score": one["relevance_score"]}
        if shown:
            result["document"] = {"text": documents[place]}
        results.append(result)
    usage = _usage(engine)
    answer = {
        "id": answer_id,
        "model": shape.model,
        "results": results,
        "usage": _tokens(usage),
    }
    return answer, usage


def _whole(engine: JSON, name: str, shape: Shape) -> list[Any]:
    found = engine.get(name)
    if type(found) is not list or len(found) != shape.choices:
        raise EngineError("the model's process answered with another number of scores")
    return found


def _usage(engine: JSON) -> Usage:
    return Usage(prompt=Usage.of_engine(engine.get("usage") or {}).prompt)


def _tokens(usage: Usage) -> JSON:
    return {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt}
