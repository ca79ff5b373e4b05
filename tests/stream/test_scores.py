"""Scores of an engine as vLLM's lists."""

from typing import Any

import pytest

from serve.core.errors import EngineError
from serve.engines.fake import vectors as fake
from serve.stream.answer import Shape
from serve.stream.scores import rerank_answer, score_answer

BODY = {"model": "engine", "query": "a cat", "documents": ["a dog", "a cat", "a cow"]}


def shape(choices: int) -> Shape:
    return Shape(id="cmpl-1", model="m-1", fingerprint="fp", created=9, choices=choices)


def scored(*found: tuple[int, float]) -> dict[str, Any]:
    return {"data": [{"index": i, "object": "score", "score": score} for i, score in found]}


def ranked(*found: tuple[int, float]) -> dict[str, Any]:
    return {"results": [{"index": i, "relevance_score": score} for i, score in found]}


def test_scores_come_in_the_order_of_the_texts() -> None:
    engine = scored((1, 0.5), (0, -0.25)) | {"usage": {"prompt_tokens": 7, "completion_tokens": 0}}
    answer, usage = score_answer(engine, shape(2), answer_id="score-1")
    assert answer == {
        "id": "score-1",
        "object": "list",
        "created": 9,
        "model": "m-1",
        "data": [
            {"index": 0, "object": "score", "score": -0.25},
            {"index": 1, "object": "score", "score": 0.5},
        ],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert usage.prompt == 7


@pytest.mark.parametrize("shown", [True, False])
def test_a_ranking_names_places_and_perhaps_the_documents(shown: bool) -> None:
    answer, usage = rerank_answer(
        fake.ranking(BODY | {"top_n": 2}), shape(2),
        answer_id="rerank-1", documents=BODY["documents"], shown=shown,
    )  # fmt: skip
    assert list(answer) == ["id", "model", "results", "usage"]
    assert (answer["id"], answer["model"], len(answer["results"])) == ("rerank-1", "m-1", 2)
    assert answer["results"][0]["index"] == 1
    documents = [one.get("document") for one in answer["results"]]
    assert documents[0] == ({"text": "a cat"} if shown else None)
    assert usage.prompt == answer["usage"]["total_tokens"] == 12


@pytest.mark.parametrize(
    "engine", [{}, scored((0, 1.0)), scored((0, 1.0), (0, 1.0)), scored((0, 1.0), (2, 1.0))]
)
def test_scores_of_other_texts_are_the_engine_s_error(engine: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        score_answer(engine, shape(2), answer_id="x")


@pytest.mark.parametrize(
    "engine", [{}, ranked((0, 1.0)), ranked((0, 1.0), (0, 1.0)), ranked((0, 1.0), (3, 1.0))]
)
def test_a_ranking_of_other_documents_is_the_engine_s_error(engine: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        rerank_answer(engine, shape(2), answer_id="x", documents=["a", "b", "c"], shown=True)
