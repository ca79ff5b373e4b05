"""True finish reasons: only the hosted API's five, and never a clean one after a failure."""

from typing import Final

from serve.core.errors import EngineError

CHAT: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
COMPLETION: Final = frozenset({"stop", "length", "content_filter"})


def chat_finish(reason: str, *, called: bool, forced: bool) -> str:
    """The reason a chat choice ended.

    `called`: at least one tool call was sent in it; `forced`: the request named the tool, in
    which case the hosted API says `stop`. Raises EngineError for `abort`, `error` and any
    reason that no client knows.
    """
    if reason not in CHAT:
        raise EngineError(f"the model's process ended this answer early ({reason})")
    if reason == "tool_calls" and (forced or not called):
        return "stop"
    if reason == "stop" and called and not forced:
        return "tool_calls"
    return reason


def completion_finish(reason: str) -> str:
    """The reason a text completion ended; raises EngineError as `chat_finish` does."""
    if reason not in COMPLETION:
        raise EngineError(f"the model's process ended this answer early ({reason})")
    return reason
