"""Whole answers of a fake engine, as vLLM words them."""

from typing import Any

from serve.engines.fake.script import Script


def usage_of(script: Script) -> dict[str, Any]:
    out = (len(script.tools or script.words) + script.thinking) * script.choices
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
    elif script.tools:
        choice["message"] = _tool_calls(script, f"call-{answer_id}-{index}")
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


def _tool_calls(script: Script, call_id: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "reasoning": _reasoning(script),
        "refusal": None,
        "tool_calls": [
            {
                "id": f"{call_id}-{place}" if place else call_id,
                "type": "function",
                "function": {"name": name, "arguments": script.arguments},
            }
            for place, name in enumerate(script.tools)
        ],
    }
