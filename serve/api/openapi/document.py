"""The document itself: addresses, bodies from the field tables, answers, errors."""

import re
from collections.abc import Iterable
from typing import Any, Final

from serve import __version__
from serve.api.envelope import is_anthropic
from serve.api.fields.fate import Fate, Field, Table
from serve.api.fields.shapes import BINARY, STRING, Schema, nullable
from serve.api.idempotency import KEY_MAX_CHARS
from serve.api.openapi import events, messages, objects, responses
from serve.api.openapi.notation import gone, page, ref
from serve.api.openapi.operations import (
    BYTES,
    OPERATIONS,
    PLAIN,
    REFUSALS,
    Operation,
    parameter,
)

JSON = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ABOUT: Final = (
    "A field that is in no schema here is refused: 400 `unknown_parameter`, or "
    "`unsupported_parameter` with the reason. Schemas may take more than the server does; what a "
    "schema does not take, the server refuses, but for a null in a place that no schema names: it "
    "is the same as nothing. `/v1/responses` is a WebSocket too."
)
_REASONS: Final = {
    400: "The request is wrong; `param` is the path of the value at fault.",
    401: "No key, or one that is not known.",
    403: "The key may not do this.",
    404: "No such model or object.",
    409: "Something else is under way, or the state forbids it.",
    413: "The body is larger than the site allows.",
    422: "The idempotency key is another request's.",
    429: "Too much is asked; `retry-after` says when to ask again.",
    500: "This server failed on the request.",
    503: "Not ready, or stopping; `retry-after` says when to ask again.",
    529: "Too much is asked, or the model is not ready.",
}
KEYED: Final = (409, 422)
"""Refusals of whatever has an idempotency key."""
_ANTHROPIC: Final = {503: 529}


def document(addresses: Iterable[tuple[str, str]] | None = None) -> JSON:
    """The OpenAPI document of these methods and paths; all that there can be without any.

    Raises KeyError for an address that nothing is known of.
    """
    paths: dict[str, JSON] = {}
    for method, path in OPERATIONS if addresses is None else addresses:
        paths.setdefault(path, {})[method.lower()] = _operation(
            method, path, OPERATIONS[method, path]
        )
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {"title": "Inhouse", "version": __version__, "description": _ABOUT},
        "security": [{"bearer": []}, {"key": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": _schemas(),
        },
    }


_IDEMPOTENCY_KEY: Final[JSON] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request, sent again with the same key, is answered as the first time.",
    "schema": {**STRING, "pattern": f"^[!-~]{{1,{KEY_MAX_CHARS}}}$"},
}


def _operation(method: str, path: str, one: Operation) -> JSON:
    names = re.findall(r"\{(\w+)\}", path)
    found: JSON = {
        "operationId": _id_of(method, path),
        "summary": one.summary,
        "responses": _responses(method, path, one),
    }
    parameters = [_in_path(name) for name in names] + [_in_query(path, name) for name in one.query]
    if method == "POST":
        parameters.append(_IDEMPOTENCY_KEY)
    if parameters:
        found["parameters"] = parameters
    if one.table is not None:
        kind = "multipart/form-data" if one.form else "application/json"
        body = form_schema(one.table) if one.form else body_schema(one.table)
        found["requestBody"] = {"required": not one.empty, "content": {kind: {"schema": body}}}
    if not one.key:
        found["security"] = []
    return found


def _id_of(method: str, path: str) -> str:
    words = [word for word in re.split(r"[/{}._]+", path.removeprefix("/v1")) if word]
    return "_".join([method.lower(), *words])


def _in_path(name: str) -> JSON:
    return {"name": name, "in": "path", "required": True, "schema": {**STRING, "minLength": 1}}


def _in_query(path: str, name: str) -> JSON:
    schema = parameter(path, name)
    shown: JSON = {"name": name, "in": "query", "schema": schema}
    if schema.get("type") == "object":
        shown |= {"style": "deepObject", "explode": True}
    return shown


def body_schema(table: Table) -> JSON:
    """The body that a table reads. Refused fields are left out: they have no value but null."""
    return {
        "type": "object",
        "properties": {
            field.name: _field(field, required=field.name in table.required)
            for field in table.fields.values()
            if field.fate is not Fate.REFUSED
        },
        "required": list(table.required),
        "additionalProperties": False,
    }


def form_schema(table: Table) -> JSON:
    """The same as the fields of a form, where objects are written `name[key]`."""
    properties: JSON = {}
    required = list(table.required)
    for field in table.fields.values():
        schema = field.check.schema
        if schema == BINARY:
            required.append(field.name)
        if schema.get("type") == "object":
            inner = schema["properties"].items()
            properties |= {f"{field.name}[{key}]": one for key, one in inner}
        else:
            properties[field.name] = _field(field, required=True)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _field(field: Field, *, required: bool) -> JSON:
    schema = field.check.schema if required else nullable(field.check.schema)
    fate = [] if field.fate is Fate.HONOURED else [f"{field.fate.value.capitalize()}."]
    says = " ".join([*fate, field.note]).strip()
    return {**schema, "description": says} if says else dict(schema)


def _responses(method: str, path: str, one: Operation) -> JSON:
    found: JSON = {"200": {"description": "What was asked for.", "content": _answer(one)}}
    if not one.key:
        return found | {str(status): found["200"] for status in one.refusals}
    anthropic = is_anthropic(path)
    error = ref("AnthropicError" if anthropic else "Error")
    for status in sorted({*REFUSALS, *one.refusals, *(KEYED if method == "POST" else ())}):
        shown = _ANTHROPIC.get(status, status) if anthropic else status
        found[str(shown)] = {
            "description": _REASONS[shown],
            "content": {"application/json": {"schema": error}},
        }
    return found


def _answer(one: Operation) -> JSON:
    if one.answer in (BYTES, PLAIN):
        return {one.answer: {"schema": STRING}}
    content: JSON = {"application/json": {"schema": ref(one.answer)}}
    if one.events is not None:
        # In OpenAPI 3.1 there is no word for one event of many; 3.2 has `itemSchema`.
        content["text/event-stream"] = {
            "schema": STRING,
            "x-event-schema": ref(one.events),
        }
    return content


def _schemas() -> dict[str, Schema]:
    return {
        "AnthropicError": objects.ANTHROPIC_ERROR,
        "Batch": objects.BATCH,
        "BatchList": page(ref("Batch")),
        "Block": messages.BLOCK,
        "ChatCompletion": objects.chat_completion(),
        "ChatCompletionChunk": objects.chat_chunk(),
        "ChatCompletionDeleted": gone("chat.completion.deleted"),
        "ChatCompletionEvent": events.chunks("ChatCompletionChunk"),
        "ChatCompletionList": page(ref("ChatCompletion")),
        "Compaction": responses.COMPACTED,
        "Completion": objects.completion(streamed=False),
        "CompletionChunk": objects.completion(streamed=True),
        "CompletionEvent": events.chunks("CompletionChunk"),
        "Conversation": objects.CONVERSATION,
        "ConversationDeleted": gone("conversation.deleted"),
        "Embeddings": objects.embeddings(),
        "Error": objects.ERROR,
        "File": objects.FILE,
        "FileDeleted": gone("file"),
        "FileList": page(ref("File")),
        "InputTokens": responses.INPUT_TOKENS,
        "Item": responses.ITEM,
        "ItemList": page(ref("Item")),
        "Liveness": objects.LIVENESS,
        "Message": messages.MESSAGE,
        "MessageEvent": events.message_events(),
        "MessageTokens": messages.COUNTED,
        "MessageUsage": messages.MESSAGE_USAGE,
        "Model": objects.MODEL,
        "ModelList": objects.MODELS,
        "OpenAPI": objects.OPENAPI,
        "Ranking": objects.ranking(),
        "Readiness": objects.READINESS,
        "Response": responses.RESPONSE,
        "ResponseDeleted": gone("response"),
        "ResponseEvent": events.response_events(),
        "Scores": objects.scores(),
        "StoredMessageList": page(objects.STORED_MESSAGE),
        "Text": objects.TEXT,
        "Tokens": objects.TOKENS,
        "Upload": objects.UPLOAD,
        "UploadPart": objects.UPLOAD_PART,
        "Usage": objects.USAGE,
    }
