"""Whole answers of a fake engine, as vLLM words them."""

from typing import Any

from serve.engines.fake.script import Script


def usage_of(script: Script) -> dict[str, Any]:
    out = (len(script.words) + script.thinking) * script.choices
    return {
        "prompt_tokens": script.prompt_tokens,
        "completion_tokens": out,
        "total_tokens": script.prompt_tokens + out,
        "prompt_tokens_details": {"cached_tokens": script.cached_tokens},
    }


def logprob(word: str) -> dict[str, Any]:
    return {"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []}


def unstreamed(script: Script, answer_id: str, created: int) -> dict[str, Any]:
    """The body of a whole answer."""
    return {
        "id": answer_id,
        "created": created,
        "model": script.model,
        "choices": [_choice(script, answer_id, index) for index in range(script.choices)],
        "object": "chat.completion" if script.chat else "text_completion",
        "usage": usage_of(script),
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }


def _choice(script: Script, answer_id: str, index: int) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": index,
        "logprobs": None,
        "finish_reason": script.finish,
        "stop_reason": script.stop_reason,
        "token_ids": None,
    }
    if not script.chat:
        choice |= {"text": " ".join(script.words), "prompt_logprobs": None}
    elif script.tool:
        choice["message"] = _tool_call(script, f"call-{answer_id}-{index}")
        choice["finish_reason"] = "tool_calls"
    else:
        choice["message"] = {
            "role": "assistant",
            "content": " ".join(script.words),
            "reasoning": _reasoning(script),
            "refusal": None,
        }
    if script.logprobs and script.chat:
        choice["logprobs"] = {"content": [logprob(word) for word in script.words]}
    return choice


def _reasoning(script: Script) -> str | None:
    return " ".join(f"t{i}" for i in range(script.thinking)) or None


def _tool_call(script: Script, call_id: str) -> dict[str, Any]:
    function = {"name": script.tool, "arguments": script.arguments}
    return {
        "role": "assistant",
        "content": None,
        "reasoning": _reasoning(script),
        "refusal": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def tokenized(words: list[str], context_tokens: int) -> dict[str, Any]:
    """The answer of `/tokenize`."""
    tokens = list(range(len(words)))
    return {
        "count": len(words),
        "max_model_len": context_tokens,
        "tokens": tokens,
        "token_strs": None,
    }


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """The answer of `/v1/embeddings`: a text's length and a one."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [
        {"index": i, "object": "embedding", "embedding": [float(len(str(text))), 1.0]}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}
