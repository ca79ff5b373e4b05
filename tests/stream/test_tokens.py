"""Tokens and texts in vLLM's shapes."""

from typing import Any

import pytest

from serve.core.errors import EngineError
from serve.core.usage import Usage
from serve.stream.answer import Shape
from serve.stream.tokens import text_answer, tokens_answer

SHAPE = Shape(id="cmpl-1", model="m", fingerprint="fp", created=1, choices=1)


def test_tokens() -> None:
    engine = {"count": 2, "max_model_len": 8, "tokens": [1, 2], "token_strs": ["a", "b"]}
    assert tokens_answer(engine | {"more": 1}, SHAPE) == (engine, Usage())


def test_a_text() -> None:
    assert text_answer({"prompt": "a", "more": 1}, SHAPE) == ({"prompt": "a"}, Usage())


@pytest.mark.parametrize("engine", [{}, {"tokens": [1], "count": 2}, {"tokens": "a", "count": 1}])
def test_what_is_no_tokens_is_the_engine_s_error(engine: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        tokens_answer(engine, SHAPE)
    with pytest.raises(EngineError):
        text_answer(engine, SHAPE)
