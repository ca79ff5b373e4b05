"""What one answer of a fake engine will be, decided from its request alone."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from serve.engines.fake.knobs import Knobs

DIRECTIVE: Final = re.compile(r"fake:([a-z]+)(?:[=@](\S+))?")
FAULTS: Final = ("die", "hang", "error", "abort", "drop", "garbage", "stall", "core")


@dataclass(slots=True)
class Script:
    """What one answer will do, decided when the request arrives."""

    chat: bool
    stream: bool
    model: str
    include_usage: bool
    choices: int
    words: list[str]
    finish: str
    thinking: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    status: int = 200
    prompt: list[str] = field(default_factory=list)
    cached_tokens: int = 0
    prefill_s: float = 0.0
    crunch_s: float = 0.0
    pace_s: float = 0.0
    tool: str | None = None
    logprobs: bool = False

    @property
    def prompt_tokens(self) -> int:
        return max(1, len(self.prompt))


def script_of(body: dict[str, Any], knobs: Knobs) -> Script:
    """Decide an answer from a request body and the knobs."""
    chat = "messages" in body
    text = _prompt_text(body)
    directives = dict(DIRECTIVE.findall(text))
    bound = body.get("max_completion_tokens") or body.get("max_tokens")
    if "say" in directives:
        words = directives["say"].replace("_", " ").split(" ")
    else:
        words = [f"w{i}" for i in range(int(directives.get("tokens") or knobs.tokens))]
    truncated = bound is not None and len(words) > bound
    return Script(
        chat=chat,
        stream=bool(body.get("stream")),
        model=body.get("model", knobs.model),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        choices=body.get("n") or 1,
        words=words[:bound] if truncated else words,
        finish="length" if truncated else "stop",
        thinking=int(directives.get("think") or 0),
        faults={name: int(directives[name] or 0) for name in FAULTS if name in directives},
        status=int(directives.get("status") or 200),
        prompt=text.split(),
        prefill_s=knobs.ttft_ms / 1000 + float(directives.get("prefill") or 0),
        crunch_s=float(directives.get("crunch") or 0),
        pace_s=float(directives.get("pace") or knobs.tpot_ms / 1000),
        tool=_tool_name(body) if chat else None,
        logprobs=bool(body.get("logprobs")),
    )


def _prompt_text(body: dict[str, Any]) -> str:
    if "messages" not in body:
        prompt = body.get("prompt", body.get("input", ""))
        return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
    texts = []
    for message in body["messages"]:
        content = message.get("content") or ""
        if isinstance(content, list):
            content = " ".join(part.get("text", "") for part in content)
        texts.append(content)
    return " ".join(texts)


def _tool_name(body: dict[str, Any]) -> str | None:
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return str(choice["function"]["name"])
    if choice == "required" and body.get("tools"):
        return str(body["tools"][0]["function"]["name"])
    return None
