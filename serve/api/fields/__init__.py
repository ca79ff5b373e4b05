"""What every field of a generating request does, in one table per endpoint.

The same rows are enforced on each request, written out as docs/api-fields.md, and walked through
by the tests. Plain checks on the dicts that orjson makes: a typical request costs some
microseconds, where a model class per request would cost more than the rest of the gateway.
"""

from collections.abc import Iterator

from serve.api.fields.chat import CHAT, check_chat
from serve.api.fields.checked import Checked
from serve.api.fields.completions import COMPLETION, check_completion
from serve.api.fields.docs import render_markdown

TABLES = (CHAT, COMPLETION)


def texts(checked: Checked) -> Iterator[str]:
    """The texts of all prompts, in order, for counting tokens."""
    for prompt in checked.prompts:
        yield from prompt


__all__ = [
    "CHAT",
    "COMPLETION",
    "TABLES",
    "Checked",
    "check_chat",
    "check_completion",
    "render_markdown",
    "texts",
]
