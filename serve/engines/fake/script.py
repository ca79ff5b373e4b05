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
    tools: tuple[str, ...] = ()
    arguments: str = "{}"
    logprobs: bool = False
    stop_reason: str | None = None
    continuous_usage: bool = False
    priority: int = 0

    @property
    def prompt_tokens(self) -> int:
        return max(1, len(self.prompt))


def script_of(body: dict[str, Any], knobs: Knobs) -> Script:
    """Decide an answer from a request body and the knobs."""
    chat = "messages" in body
    text = _prompt_text(body)
    directives = dict(DIRECTIVE.findall(text))
    bound = body.get("max_completion_tokens") or body.get("max_tokens")
    if "echo" in directives:
        words = _last_text(body).split() or ["nothing"]
    elif "say" in directives:
        words = directives["say"].replace("_", " ").split(" ")
    else:
        words = [f"w{i}" for i in range(int(directives.get("tokens") or knobs.tokens))]
    words, stop_reason = _stopped(words, body.get("stop") or ())
    truncated = bound is not None and len(words) > bound
    options = body.get("stream_options") or {}
    return Script(
        chat=chat,
        stream=bool(body.get("stream")),
        model=body.get("model", knobs.model),
        include_usage=bool(options.get("include_usage")),
        choices=(body.get("n") or 1) * _prompts(body),
        words=words[:bound] if truncated else words,
        finish="length" if truncated else "stop",
        thinking=int(directives.get("think") or 0),
        faults={name: int(directives[name] or 0) for name in FAULTS if name in directives},
        status=int(directives.get("status") or 200),
        prompt=prompt_words(body),
        prefill_s=knobs.ttft_ms / 1000 + float(directives.get("prefill") or 0),
        crunch_s=float(directives.get("crunch") or 0),
        pace_s=float(directives.get("pace") or knobs.tpot_ms / 1000),
        tools=_called(body, directives) if chat else (),
        arguments=directives.get("arguments") or "{}",
        logprobs=bool(body.get("logprobs")),
        stop_reason=None if truncated else stop_reason,
        continuous_usage=bool(options.get("continuous_usage_stats")),
        priority=body.get("priority") or 0,
    )


def _prompts(body: dict[str, Any]) -> int:
    """How many prompts are to be completed, each for itself."""
    prompt = body.get("prompt")
    several = isinstance(prompt, list) and not isinstance(prompt[0], int)
    return len(prompt) if several and isinstance(prompt, list) else 1


def _stopped(words: list[str], stop: Any) -> tuple[list[str], str | None]:
    """The words before the first stop string that is met, and that string."""
    text = " ".join(words)
    stops = [stop] if isinstance(stop, str) else stop
    met = min((one for one in stops if one in text), key=text.index, default=None)
    return (words, None) if met is None else (text[: text.index(met)].split(" "), met)


def prompt_words(body: dict[str, Any]) -> list[str]:
    """What this engine takes for the tokens of a prompt: its words, and those of the tools."""
    words = _prompt_text(body).split()
    for tool in body.get("tools") or ():
        words += [tool["function"]["name"], *(tool["function"].get("description") or "").split()]
    return words


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


def _last_text(body: dict[str, Any]) -> str:
    """The last message, which a model that has called a tool has the result in."""
    return _prompt_text({"messages": body.get("messages", ())[-1:]})


def _called(body: dict[str, Any], directives: dict[str, str]) -> tuple[str, ...]:
    """The tools that this answer calls."""
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return (str(choice["function"]["name"]),)
    names = [str(tool["function"]["name"]) for tool in body.get("tools") or ()]
    called = tuple(name for name in directives.get("call", "").split(",") if name in names)
    if choice == "required":
        return called or tuple(names[:1])
    times = int(directives.get("times") or 0)
    return () if choice != "auto" or (times and _results(body) >= times) else called


def _results(body: dict[str, Any]) -> int:
    """How many results of tools there are since the user's last message."""
    roles = [message.get("role") for message in body["messages"]]
    last = max((place for place, role in enumerate(roles) if role == "user"), default=-1)
    return roles[last + 1 :].count("tool")
