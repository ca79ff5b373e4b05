"""What there is to ask, address by address. Bodies are the field tables' to say."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from serve.api import query
from serve.api.fields import (
    BATCH,
    CHAT,
    CHAT_UPDATE,
    COMPACT,
    COMPLETION,
    CONVERSATION,
    CONVERSATION_ITEMS,
    CONVERSATION_UPDATE,
    COUNT_TOKENS,
    DETOKENIZE,
    EMBEDDING,
    FILE,
    INPUT_TOKENS,
    MESSAGES,
    RERANK,
    RESPONSE,
    SCORE,
    TOKENIZE,
    UPLOAD,
    UPLOAD_COMPLETE,
    UPLOAD_PART,
)
from serve.api.fields.fate import Table
from serve.api.fields.shapes import BOOLEAN, STRING, Schema, array, integer, text, words
from serve.api.files import LIST_MAX

BYTES: Final = "application/octet-stream"
PLAIN: Final = "text/plain"

REFUSALS: Final = (400, 401, 403)
"""Of every address that asks for a key."""
BODY: Final = (413,)
GENERATING: Final = (404, 429, 500, 503)
KEPT: Final = (404, 500, 503)
ONCE: Final = (*KEPT, 409)
"""Where what has ended cannot be ended again."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address.

    `answer` is the object that comes with 200, or the media type of what is none. `refusals` are
    the other statuses. `events`: what is streamed where a request asks for it. `empty`: no body
    is the same as an empty one. `key`: whether one is asked for.
    """

    summary: str
    answer: str
    refusals: tuple[int, ...] = ()
    table: Table | None = None
    query: tuple[str, ...] = ()
    events: str | None = None
    form: bool = False
    empty: bool = False
    key: bool = True


_PAGE: Final = ("after", "limit", "order")
_INCLUDE: Final = (*_PAGE, "include")
PARAMETERS: Final[Mapping[str, Schema]] = {
    "after": {**text(query.ID_MAX_CHARS), "description": "the id of the last one that was had"},
    "limit": integer(1, 100),
    "order": words("asc", "desc"),
    "include": array(words(*query.INCLUDABLE)),
    "purpose": text(query.ID_MAX_CHARS),
    "model": text(query.ID_MAX_CHARS),
    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
    "beta": {**STRING, "description": "means nothing here"},
    "stream": BOOLEAN,
    "starting_after": {"type": "integer", "minimum": 0, "description": "only with `stream=true`"},
    "include_obfuscation": BOOLEAN,
    "files.limit": integer(1, LIST_MAX),
}
"""Query parameters by name; `x.name` is the one of `x` that differs."""


def _asks(summary: str, answer: str, table: Table, events: str | None = None) -> Operation:
    """What a model's engine answers."""
    return Operation(summary, answer, (*BODY, *GENERATING), table, events=events)


def _makes(summary: str, answer: str, table: Table, *, empty: bool = False) -> Operation:
    """What is kept."""
    return Operation(summary, answer, (*BODY, *KEPT), table, empty=empty)


def _takes(summary: str, answer: str, *parameters: str) -> Operation:
    """What has been kept: read, changed or deleted."""
    return Operation(summary, answer, KEPT, query=parameters)


_CHAT: Final = "/v1/chat/completions"
_ONE_CHAT: Final = f"{_CHAT}/{{completion_id}}"
_TALK: Final = "/v1/conversations"
_ONE_TALK: Final = f"{_TALK}/{{conversation_id}}"
_RESPONSES: Final = "/v1/responses"
_ONE_RESPONSE: Final = f"{_RESPONSES}/{{response_id}}"

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", _CHAT): _asks("Chat", "ChatCompletion", CHAT, "ChatCompletionEvent"),
    ("GET", _CHAT): _takes(
        "List stored chat completions", "ChatCompletionList", *_PAGE, "model", "metadata"
    ),
    ("GET", _ONE_CHAT): _takes("Read a stored chat completion", "ChatCompletion"),
    ("POST", _ONE_CHAT): _makes("Change its metadata", "ChatCompletion", CHAT_UPDATE),
    ("DELETE", _ONE_CHAT): _takes("Delete it", "ChatCompletionDeleted"),
    ("GET", f"{_ONE_CHAT}/messages"): _takes("List its messages", "StoredMessageList", *_PAGE),
    ("POST", "/v1/completions"): _asks("Complete", "Completion", COMPLETION, "CompletionEvent"),
    ("POST", "/v1/messages"): replace(
        _asks("Messages", "Message", MESSAGES, "MessageEvent"), query=("beta",)
    ),
    ("POST", "/v1/messages/count_tokens"): replace(
        _asks("Count tokens", "MessageTokens", COUNT_TOKENS), query=("beta",)
    ),
    ("POST", _RESPONSES): _asks("Respond", "Response", RESPONSE, "ResponseEvent"),
    ("POST", f"{_RESPONSES}/input_tokens"): _asks("Count tokens", "InputTokens", INPUT_TOKENS),
    ("POST", f"{_RESPONSES}/compact"): _asks("Compact a conversation", "Compaction", COMPACT),
    ("GET", _ONE_RESPONSE): Operation(
        "Read a response",
        "Response",
        KEPT,
        query=("include", "stream", "starting_after", "include_obfuscation"),
        events="ResponseEvent",
    ),
    ("DELETE", _ONE_RESPONSE): _takes("Delete a response", "ResponseDeleted"),
    ("POST", f"{_ONE_RESPONSE}/cancel"): _takes("Cancel a response", "Response"),
    ("GET", f"{_ONE_RESPONSE}/input_items"): _takes("List its input", "ItemList", *_INCLUDE),
    ("POST", _TALK): _makes("Begin a conversation", "Conversation", CONVERSATION, empty=True),
    ("GET", _ONE_TALK): _takes("Read a conversation", "Conversation"),
    ("POST", _ONE_TALK): _makes("Change its metadata", "Conversation", CONVERSATION_UPDATE),
    ("DELETE", _ONE_TALK): _takes("Delete it", "ConversationDeleted"),
    ("POST", f"{_ONE_TALK}/items"): Operation(
        "Add items", "ItemList", (*BODY, *KEPT), CONVERSATION_ITEMS, query=("include",)
    ),
    ("GET", f"{_ONE_TALK}/items"): _takes("List its items", "ItemList", *_INCLUDE),
    ("GET", f"{_ONE_TALK}/items/{{item_id}}"): _takes("Read an item", "Item", "include"),
    ("DELETE", f"{_ONE_TALK}/items/{{item_id}}"): _takes("Delete an item", "Conversation"),
    ("POST", "/v1/files"): Operation("Upload a file", "File", (*BODY, *KEPT), FILE, form=True),
    ("GET", "/v1/files"): _takes("List files", "FileList", *_PAGE, "purpose"),
    ("GET", "/v1/files/{file_id}"): _takes("Read what is known of a file", "File"),
    ("GET", "/v1/files/{file_id}/content"): _takes("Read a file", BYTES),
    ("DELETE", "/v1/files/{file_id}"): _takes("Delete a file", "FileDeleted"),
    ("POST", "/v1/uploads"): _makes("Begin an upload in parts", "Upload", UPLOAD),
    ("POST", "/v1/uploads/{upload_id}/parts"): Operation(
        "Upload a part", "UploadPart", (*BODY, *ONCE), UPLOAD_PART, form=True
    ),
    ("POST", "/v1/uploads/{upload_id}/complete"): Operation(
        "Make a file of the parts", "Upload", (*BODY, *ONCE), UPLOAD_COMPLETE
    ),
    ("POST", "/v1/uploads/{upload_id}/cancel"): Operation("Cancel an upload", "Upload", ONCE),
    ("POST", "/v1/batches"): Operation("Begin a batch", "Batch", (*BODY, *GENERATING), BATCH),
    ("GET", "/v1/batches"): _takes("List batches", "BatchList", *_PAGE),
    ("GET", "/v1/batches/{batch_id}"): _takes("Read a batch", "Batch"),
    ("POST", "/v1/batches/{batch_id}/cancel"): Operation("Cancel a batch", "Batch", ONCE),
    ("POST", "/v1/embeddings"): _asks("Embed texts", "Embeddings", EMBEDDING),
    ("POST", "/v1/score"): _asks("Score pairs of texts", "Scores", SCORE),
    ("POST", "/v1/rerank"): _asks("Rank documents", "Ranking", RERANK),
    ("POST", "/tokenize"): _asks("Tokens of a text", "Tokens", TOKENIZE),
    ("POST", "/detokenize"): _asks("Text of tokens", "Text", DETOKENIZE),
    ("GET", "/v1/models"): Operation("List models", "ModelList"),
    ("GET", "/v1/models/{name}"): Operation("Read what is known of a model", "Model", (404,)),
    ("GET", "/openapi.json"): Operation("This document", "OpenAPI"),
    ("GET", "/health/live"): Operation("Whether the process lives", "Liveness", key=False),
    ("GET", "/health/ready"): Operation(
        "Whether its models answer", "Readiness", (503,), key=False
    ),
    ("GET", "/metrics"): Operation("Figures for Prometheus", PLAIN, key=False),
}


def parameter(path: str, name: str) -> Schema:
    """The schema of a query parameter of an address."""
    family = path.removeprefix("/v1/").partition("/")[0]
    return PARAMETERS.get(f"{family}.{name}", PARAMETERS[name])
