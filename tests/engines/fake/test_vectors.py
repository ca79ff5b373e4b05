"""The fake's embeddings and scores are of vLLM's shapes, and mean something."""

import base64
import math
import struct

import pytest

from serve.engines.fake import vectors


def test_a_text_has_one_vector_of_length_one() -> None:
    one, other = vectors.vector_of("a"), vectors.vector_of("b")
    assert len(one) == vectors.SIZE
    assert math.isclose(math.hypot(*one), 1, rel_tol=1e-6)
    assert one == vectors.vector_of("a")
    assert abs(sum(a * b for a, b in zip(one, other, strict=True))) < 0.3


def test_both_encodings() -> None:
    body = {"model": "m", "input": "a"}
    numbers = vectors.embeddings(body)["data"][0]["embedding"]
    text = vectors.embeddings(body | {"encoding_format": "base64"})["data"][0]["embedding"]
    assert list(struct.unpack(f"<{vectors.SIZE}f", base64.b64decode(text))) == numbers


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], ["w1 w2"]), ([[1], [2]], ["w1", "w2"])],
)
def test_every_kind_of_input(inputs: object, texts: list[str]) -> None:
    assert vectors.inputs_of({"input": inputs}) == texts


def test_dimensions_that_no_model_has_are_refused_in_vllm_s_words() -> None:
    assert len(vectors.embeddings({"input": "a", "dimensions": 64})["data"][0]["embedding"]) == 64
    with pytest.raises(vectors.Unfit, match="only supports Matryoshka dimensions"):
        vectors.embeddings({"input": "a", "dimensions": 65})


def test_one_query_is_held_against_each_document() -> None:
    assert vectors.pairs_of({"text_1": ["q"], "text_2": ["a", "b"]}) == [("q", "a"), ("q", "b")]
    assert vectors.pairs_of({"query": "q", "documents": ["a"]}) == [("q", "a")]
    ranked = vectors.ranking({"query": "q", "documents": ["a", "q"], "top_n": 1})["results"]
    assert [(one["index"], one["document"]["text"]) for one in ranked] == [(1, "q")]
