"""The fields of Anthropic's Messages API, as the engine's chat takes them."""

from serve.api.fields.anthropic.message import (
    COUNT_TOKENS,
    MESSAGES,
    AskedMessage,
    check_count,
    check_message,
)

__all__ = ["COUNT_TOKENS", "MESSAGES", "AskedMessage", "check_count", "check_message"]
