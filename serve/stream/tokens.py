"""Tokens and texts of an engine's tokenizer, in vLLM's shapes."""

from serve.core.errors import EngineError
from serve.core.usage import Usage
from serve.stream.answer import JSON, Shape


def tokens_answer(engine: JSON, _: Shape) -> tuple[JSON, Usage]:
    """What `/tokenize` answers; no model has read the tokens, so that none are used."""
    tokens = engine.get("tokens")
    if type(tokens) is not list or engine.get("count") != len(tokens):
        raise EngineError("the model's process answered with something that is no tokens")
    answer = {
        "count": len(tokens),
        "max_model_len": engine.get("max_model_len"),
        "tokens": tokens,
        "token_strs": engine.get("token_strs"),
    }
    return answer, Usage()


def text_answer(engine: JSON, _: Shape) -> tuple[JSON, Usage]:
    """What `/detokenize` answers."""
    prompt = engine.get("prompt")
    if type(prompt) is not str:
        raise EngineError("the model's process answered with something that is no text")
    return {"prompt": prompt}, Usage()
