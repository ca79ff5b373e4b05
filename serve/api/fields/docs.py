"""docs/api-fields.md, from the tables that the code enforces."""

from collections.abc import Iterable
from typing import Final

from serve.api.fields.anthropic import COUNT_TOKENS, MESSAGES
from serve.api.fields.batches import BATCH
from serve.api.fields.chat import CHAT
from serve.api.fields.completions import COMPLETION
from serve.api.fields.conversations import (
    CONVERSATION,
    CONVERSATION_ITEMS,
    CONVERSATION_UPDATE,
)
from serve.api.fields.embeddings import EMBEDDING
from serve.api.fields.fate import Fate, Field, Origin, Table
from serve.api.fields.files import FILE, UPLOAD, UPLOAD_COMPLETE, UPLOAD_PART
from serve.api.fields.metadata import CHAT_UPDATE
from serve.api.fields.responses import COMPACT, INPUT_TOKENS, RESPONSE
from serve.api.fields.scores import RERANK, SCORE
from serve.api.fields.tokens import DETOKENIZE, TOKENIZE

_HEAD: Final = """\
# Request fields

Every field that a request may have and what becomes of it. This page is written by
`python -m serve.api.fields > docs/api-fields.md` from the tables in `serve/api/fields/` that
check each request; a test compares the two, and another walks through the parameters of
OpenAI's OpenAPI file and SDK, and of Anthropic's SDK, so that none is without a row.

- **honoured**: the answer follows it.
- **accepted without effect**: its shape is checked; it could not change the answer's meaning here.
- **refused**: 400 `unsupported_parameter`, with the reason, before anything reaches the engine.

`null` means the same as leaving a field out. A value outside the column *values* is a 400 whose
`param` is the path of the value, as in `messages[2].content[0].type`. A field that is in no table
is a 400 `unknown_parameter` that names the nearest known one. Below `/v1/messages` the same is said
in Anthropic's shape, which has no `param` and no `code`: the message names the path.
"""

_TABLES: Final = (
    CHAT,
    CHAT_UPDATE,
    COMPLETION,
    MESSAGES,
    COUNT_TOKENS,
    RESPONSE,
    INPUT_TOKENS,
    COMPACT,
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
_ORIGINS: Final = {
    Origin.OPENAI: "Fields of OpenAI's API",
    Origin.VLLM: "Fields of vLLM",
    Origin.FORMER: "Fields of earlier vLLM versions",
    Origin.ANTHROPIC: "Fields of Anthropic's API",
    Origin.OTHERS: "Fields of Jina's and Cohere's APIs",
    Origin.CODEX: "Fields that Codex sends",
}


def render_markdown() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(table) for table in _TABLES)])


def _section(table: Table) -> str:
    parts = [f"## `POST {table.endpoint}`", "", f"Required: {_listed(table.required)}.", ""]
    for origin, title in _ORIGINS.items():
        rows = [field for field in table.fields.values() if field.origin is origin]
        if rows:
            parts += [f"### {title}", "", *_rows(rows), ""]
    return "\n".join(parts)


def _rows(fields: Iterable[Field]) -> list[str]:
    order = list(Fate)
    rows = sorted(fields, key=lambda field: (order.index(field.fate), field.name))
    lines = ["| field | fate | values | note |", "| --- | --- | --- | --- |"]
    for field in rows:
        values = "" if field.fate is Fate.REFUSED else field.check.says
        note = field.note[:1].upper() + field.note[1:]
        lines.append(f"| `{field.name}` | {field.fate} | {values} | {note} |")
    return lines


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
