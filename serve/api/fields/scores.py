"""`POST /v1/score` and `POST /v1/rerank`: the tables of their fields, and the rules between them.

Both are vLLM's; the names of `/v1/rerank` are also those of Jina's and Cohere's clients.
"""

from dataclasses import dataclass
from typing import Any, Final

from serve.api.fields import checks, faults
from serve.api.fields.checked import Checked
from serve.api.fields.fate import Check, Origin, Table, accepted, forwarded, honoured, refused
from serve.api.fields.pooling import POOLING, TEXT, TEXTS_MAX, read_text, read_texts
from serve.api.fields.shapes import array, either
from serve.settings.site import Limits

_VLLM: Final = Origin.VLLM
_OTHERS: Final = Origin.OTHERS
_TEXT: Final = "string, or object with a `text`"
_TEXTS: Final = Check(
    f"{_TEXT}, or array of up to {TEXTS_MAX:,} of them",
    read_texts,
    either(TEXT, array(TEXT, TEXTS_MAX, 1)),
)
_NO_TEMPLATE: Final = "only rerankers with a chat template read it, and none is served here."

_BOTH: Final = (
    *POOLING,
    forwarded(
        "max_tokens_per_query",
        checks.integer(0, checks.INT32_MAX),
        "A longer query is cut to its beginning. 0, or nothing: not cut.",
        _VLLM,
    ),
    forwarded(
        "max_tokens_per_doc",
        checks.integer(0, checks.INT32_MAX),
        "A longer document is cut to its beginning. 0, or nothing: not cut.",
        _VLLM,
    ),
    accepted("use_activation", checks.boolean(), "A cosine does not ask for lengths.", _VLLM),
    refused("instruction", _NO_TEMPLATE, _VLLM),
    refused("chat_template_kwargs", _NO_TEMPLATE, _VLLM),
)

SCORE: Final = Table(
    "/v1/score",
    ("model",),
    (
        honoured(
            "queries",
            _TEXTS,
            "One, or as many as `documents`. One pair of names is required: `queries` and "
            "`documents`, `queries` and `items`, `text_1` and `text_2`, `data_1` and `data_2`.",
            _VLLM,
        ),
        honoured("documents", _TEXTS, "One score each.", _VLLM),
        honoured("items", _TEXTS, "Another name of `documents`.", _VLLM),
        honoured("text_1", _TEXTS, "Another name of `queries`.", _VLLM),
        honoured("text_2", _TEXTS, "Another name of `documents`.", _VLLM),
        honoured("data_1", _TEXTS, "Another name of `queries`.", _VLLM),
        honoured("data_2", _TEXTS, "Another name of `documents`.", _VLLM),
        *_BOTH,
    ),
)
_PAIRS: Final = (
    ("queries", "documents"),
    ("queries", "items"),
    ("text_1", "text_2"),
    ("data_1", "data_2"),
)

RERANK: Final = Table(
    "/v1/rerank",
    ("model", "query", "documents"),
    (
        honoured("query", Check(_TEXT, read_text, TEXT), "", _VLLM),
        honoured("documents", _TEXTS, "The answer has their places in this array.", _VLLM),
        forwarded(
            "top_n",
            checks.integer(0, checks.INT32_MAX),
            "So many of the best. 0, or nothing: all.",
            _VLLM,
        ),
        honoured(
            "return_documents",
            checks.boolean(),
            "`false`: the results have no `document`.",
            _OTHERS,
        ),
        refused("rank_fields", "a document has one field, `text`.", _OTHERS),
        refused("max_chunks_per_doc", "documents are not taken apart.", _OTHERS),
        refused("return_embeddings", "ask `/v1/embeddings`.", _OTHERS),
        refused("truncation", "cut documents with `max_tokens_per_doc`.", _OTHERS),
        *_BOTH,
    ),
)


@dataclass(frozen=True, slots=True)
class Ranking(Checked):
    """What is to be ranked; `shown`: the results repeat the documents."""

    documents: tuple[str, ...] = ()
    shown: bool = True


def check_score(body: object, _: Limits) -> Checked:
    """Check a request of `/v1/score`, as orjson parsed it; raises InvalidRequest."""
    engine, own = SCORE.read(body)
    first, second = _pair(own)
    queries, documents = own[first], own[second]
    if len(queries) not in (1, len(documents)):
        raise faults.invalid(
            first, f"one, or as many as '{second}': {len(queries)} for {len(documents)}."
        )
    engine |= {"text_1": queries, "text_2": documents}
    return _checked(own, engine, len(documents), [*queries, *documents])


def check_rerank(body: object, _: Limits) -> Ranking:
    """Check a request of `/v1/rerank`, as orjson parsed it; raises InvalidRequest."""
    engine, own = RERANK.read(body)
    query, documents = own["query"], own["documents"]
    engine |= {"query": query, "documents": documents}
    checked = _checked(own, engine, len(documents), [query, *documents])
    n = min(engine.get("top_n") or checked.n, checked.n)
    return Ranking(
        model=checked.model,
        stream=False,
        include_usage=False,
        n=n,
        engine_body=engine,
        max_output_tokens=None,
        prompts=checked.prompts,
        prompt_bytes=checked.prompt_bytes,
        documents=tuple(documents),
        shown=own.get("return_documents", True),
    )


def _checked(own: dict[str, Any], engine: dict[str, Any], n: int, texts: list[str]) -> Checked:
    return Checked(
        model=own["model"],
        stream=False,
        include_usage=False,
        n=n,
        engine_body=engine,
        max_output_tokens=None,
        prompts=tuple([text] for text in texts),
        prompt_bytes=sum(len(text.encode()) for text in texts),
    )


def _pair(own: dict[str, Any]) -> tuple[str, str]:
    """The names under which both sides came."""
    named = {name for pair in _PAIRS for name in pair if name in own}
    for pair in _PAIRS:
        if named == set(pair):
            return pair
    if len(named) > 1:
        raise faults.invalid(sorted(named)[-1], "send one pair: 'queries' and 'documents'.")
    for first, second in _PAIRS:
        if first in named or second in named:
            raise faults.missing(second if first in named else first)
    raise faults.missing("queries")
