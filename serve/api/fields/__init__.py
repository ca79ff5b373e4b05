"""What every field of a request does, in one table per endpoint.

The same rows are enforced on each request, written out as docs/api-fields.md, and walked through
by the tests. Plain checks on the dicts that orjson makes: a typical request costs some
microseconds, where a model class per request would cost more than the rest of the gateway.
"""

from collections.abc import Iterator

from serve.api.fields.anthropic import COUNT_TOKENS, MESSAGES
from serve.api.fields.batches import BATCH
from serve.api.fields.chat import CHAT, check_chat
from serve.api.fields.checked import Checked
from serve.api.fields.completions import COMPLETION, check_completion
from serve.api.fields.conversations import (
    CONVERSATION,
    CONVERSATION_ITEMS,
    CONVERSATION_UPDATE,
)
from serve.api.fields.docs import render_markdown
from serve.api.fields.embeddings import EMBEDDING, check_embedding
from serve.api.fields.files import FILE, UPLOAD, UPLOAD_COMPLETE, UPLOAD_PART
from serve.api.fields.metadata import CHAT_UPDATE
from serve.api.fields.responses import (
    COMPACT,
    INPUT_TOKENS,
    RESPONSE,
    check_compact,
    check_input_tokens,
    check_response,
)
from serve.api.fields.scores import RERANK, SCORE, check_rerank, check_score
from serve.api.fields.tokens import DETOKENIZE, TOKENIZE, check_detokenize, check_tokenize

TABLES = (
    CHAT,
    COMPLETION,
    MESSAGES,
    COUNT_TOKENS,
    RESPONSE,
    INPUT_TOKENS,
    COMPACT,
    CHAT_UPDATE,
    CONVERSATION,
    CONVERSATION_UPDATE,
    CONVERSATION_ITEMS,
    FILE,
    UPLOAD,
    UPLOAD_PART,
    UPLOAD_COMPLETE,
    BATCH,
    EMBEDDING,
    RERANK,
    SCORE,
    TOKENIZE,
    DETOKENIZE,
)


def texts(checked: Checked) -> Iterator[str]:
    """The texts of all prompts, in order, for counting tokens."""
    for prompt in checked.prompts:
        yield from prompt


__all__ = [
    "BATCH",
    "CHAT",
    "CHAT_UPDATE",
    "COMPACT",
    "COMPLETION",
    "CONVERSATION",
    "CONVERSATION_ITEMS",
    "CONVERSATION_UPDATE",
    "COUNT_TOKENS",
    "DETOKENIZE",
    "EMBEDDING",
    "FILE",
    "INPUT_TOKENS",
    "MESSAGES",
    "RERANK",
    "RESPONSE",
    "SCORE",
    "TABLES",
    "TOKENIZE",
    "UPLOAD",
    "UPLOAD_COMPLETE",
    "UPLOAD_PART",
    "Checked",
    "check_chat",
    "check_compact",
    "check_completion",
    "check_detokenize",
    "check_embedding",
    "check_input_tokens",
    "check_rerank",
    "check_response",
    "check_score",
    "check_tokenize",
    "render_markdown",
    "texts",
]
