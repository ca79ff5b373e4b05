"""The tables of embeddings, scores and tokens: complete, and each row does what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types import embedding_create_params

from serve.api.fields import (
    DETOKENIZE,
    EMBEDDING,
    RERANK,
    SCORE,
    TOKENIZE,
    Checked,
    check_detokenize,
    check_embedding,
    check_rerank,
    check_score,
    check_tokenize,
)
from serve.api.fields.embeddings import AskedVectors
from serve.api.fields.fate import Fate, Field, Table
from serve.api.fields.scores import Ranking
from serve.core.errors import InvalidRequest
from serve.settings.site import Limits
from tests.api.fields.vllm_models import own_fields

LIMITS = Limits()
USER = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BASES: dict[str, dict[str, Any]] = {
    EMBEDDING.endpoint: {"model": "m", "input": "hi"},
    RERANK.endpoint: {"model": "m", "query": "q", "documents": ["a", "b"]},
    SCORE.endpoint: {"model": "m"},
    TOKENIZE.endpoint: {"model": "m"},
    DETOKENIZE.endpoint: {"model": "m", "tokens": [1]},
}
# What else must be sent for a row to be looked at by itself.
DEFAULTS: dict[str, dict[str, Any]] = {
    SCORE.endpoint: {"text_1": ["q"], "text_2": ["a"]},
    TOKENIZE.endpoint: {"messages": USER},
}
CHECKS: dict[str, Callable[[object, Limits], Checked]] = {
    EMBEDDING.endpoint: check_embedding,
    RERANK.endpoint: check_rerank,
    SCORE.endpoint: check_score,
    TOKENIZE.endpoint: check_tokenize,
    DETOKENIZE.endpoint: check_detokenize,
}
GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    "model": ("other", {}),
    "user": ("u", {}),
    "input": (["a", "b"], {}),
    "encoding_format": ("base64", {}),
    "dimensions": (64, {}),
    "add_special_tokens": (False, {}),
    "use_activation": (False, {}),
    "query": ({"text": "ho"}, {}),
    "documents": (["x", {"text": "y"}], {}),
    "top_n": (1, {}),
    "return_documents": (False, {}),
    "max_tokens_per_query": (5, {}),
    "max_tokens_per_doc": (6, {}),
    "prompt": ("ho", {}),
    "messages": ([{"role": "user", "content": "ho"}], {}),
    "return_token_strs": (True, {}),
    "add_generation_prompt": (False, {}),
    "continue_final_message": (
        True,
        {"messages": [*USER, {"role": "assistant", "content": "So"}]},
    ),
    "chat_template_kwargs": ({"enable_thinking": False}, {}),
    "tools": ([TOOL], {}),
    "tokens": ([2, 3], {}),
}
GOOD_SCORES: dict[str, tuple[Any, dict[str, Any]]] = {
    "queries": ("q", {"documents": ["a"]}),
    "documents": (["a"], {"queries": "q"}),
    "items": (["a"], {"queries": "q"}),
    "text_1": ("q", {"text_2": ["a"]}),
    "text_2": (["a"], {"text_1": "q"}),
    "data_1": ("q", {"data_2": ["a"]}),
    "data_2": (["a"], {"data_1": "q"}),
}
SIDES = GOOD_SCORES.keys()

TABLES = (EMBEDDING, RERANK, SCORE, TOKENIZE, DETOKENIZE)
ROWS = [(table, field) for table in TABLES for field in table.fields.values()]
ROW_IDS = [f"{table.endpoint}:{field.name}" for table, field in ROWS]

COMMON = ("PoolingBasicRequestMixin",)
EMBED = (*COMMON, "CompletionRequestMixin", "EncodingRequestMixin", "EmbedRequestMixin",
         "ChatRequestOptionsMixin", "ChatRequestMixin")  # fmt: skip
SCORED = ("ScoringRequestMixin",)
VLLM: dict[str, Callable[[], set[str]]] = {
    EMBEDDING.endpoint: lambda: own_fields("pooling/base", *EMBED),
    RERANK.endpoint: lambda: (
        own_fields("pooling/base", *COMMON, "ClassifyRequestMixin")
        | own_fields("pooling/scoring", *SCORED, "RerankRequest")
    ),
    SCORE.endpoint: lambda: (
        own_fields("pooling/base", *COMMON, "ClassifyRequestMixin")
        | own_fields("pooling/scoring", *SCORED, "ScoreDataRequest", "ScoreTextRequest",
                     "ScoreQueriesDocumentsRequest", "ScoreQueriesItemsRequest")
    ),
    TOKENIZE.endpoint: lambda: own_fields(
        "serve/tokenize", "TokenizeCompletionRequest", "TokenizeChatRequest"
    ),
    DETOKENIZE.endpoint: lambda: own_fields("serve/tokenize", "DetokenizeRequest"),
}  # fmt: skip


def good(table: Table, field: Field) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request without the field, and the same with it."""
    special = GOOD_SCORES if table is SCORE else {}
    value, others = special.get(field.name) or GOOD[field.name]
    base = BASES[table.endpoint] | others
    if table is SCORE and not others:
        base |= DEFAULTS[table.endpoint]
    if table is TOKENIZE and field.name != "prompt" and "messages" not in base:
        base |= DEFAULTS[table.endpoint]
    return base, base | {field.name: value}


def test_every_property_of_the_openapi_file_has_a_fate() -> None:
    names = json.loads(Path(__file__).with_name("openai_properties.json").read_text())
    assert len(names[EMBEDDING.endpoint]) == 5
    assert set(names[EMBEDDING.endpoint]) - EMBEDDING.fields.keys() == set()


def test_every_parameter_of_the_sdk_has_a_fate() -> None:
    names = embedding_create_params.EmbeddingCreateParams.__annotations__.keys()
    assert len(names) > 4
    assert names - EMBEDDING.fields.keys() == set()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.endpoint)
def test_every_field_of_vllm_has_a_fate(table: Table) -> None:
    assert VLLM[table.endpoint]() - table.fields.keys() == set()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.endpoint)
def test_what_is_forwarded_is_known_to_vllm(table: Table) -> None:
    sent: set[str] = set()
    for owner, field in ROWS:
        if owner is table and field.fate is not Fate.REFUSED:
            sent |= CHECKS[table.endpoint](good(table, field)[1], LIMITS).engine_body.keys()
    assert sent
    assert sent - VLLM[table.endpoint]() == set()


# Honoured, but not in the engine's body under its own name: what each does instead.
EFFECTS: dict[str, Callable[[Any], bool]] = {
    "model": lambda checked: checked.model == "other",
    "encoding_format": lambda checked: checked.base64,
    "return_documents": lambda checked: not checked.shown,
    "query": lambda checked: checked.engine_body["query"] == "ho",
    "documents": lambda checked: checked.engine_body["documents"] == ["x", "y"],
}


@pytest.mark.parametrize(("table", "field"), ROWS, ids=ROW_IDS)
def test_a_field_meets_its_fate(table: Table, field: Field) -> None:
    check = CHECKS[table.endpoint]
    if field.fate is Fate.REFUSED:
        with pytest.raises(InvalidRequest) as caught:
            check(BASES[table.endpoint] | {field.name: "x"}, LIMITS)
        assert (caught.value.param, caught.value.code) == (field.name, "unsupported_parameter")
        assert field.note in caught.value.message
        return
    without, with_field = good(table, field)
    checked = check(with_field, LIMITS)
    if field.fate is Fate.ACCEPTED:
        assert checked == check(without, LIMITS)
    elif table is SCORE and field.name in SIDES:
        assert checked.engine_body == {"text_1": ["q"], "text_2": ["a"]}
    elif field.name in EFFECTS:
        assert EFFECTS[field.name](checked)
    else:
        assert checked.engine_body[field.name] == with_field[field.name]


@pytest.mark.parametrize(("table", "field"), ROWS, ids=ROW_IDS)
def test_null_is_the_same_as_absent(table: Table, field: Field) -> None:
    check = CHECKS[table.endpoint]
    base = BASES[table.endpoint]
    if table is SCORE and field.name in SIDES:
        base = base | {"queries": "q", "documents": "a"}
        if field.name in base:
            base = BASES[SCORE.endpoint] | {"text_1": "q", "text_2": "a"}
    elif table is SCORE:
        base = base | DEFAULTS[table.endpoint]
    elif table is TOKENIZE:
        base = base | ({"prompt": "x"} if field.name == "messages" else {"messages": USER})
    if field.name in table.required:
        with pytest.raises(InvalidRequest) as caught:
            check(base | {field.name: None}, LIMITS)
        assert caught.value.code == "missing_required_parameter"
        assert caught.value.param == field.name
    else:
        assert check(base | {field.name: None}, LIMITS) == check(base, LIMITS)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.endpoint)
def test_a_body_is_an_object_of_known_fields(table: Table) -> None:
    for body in (None, [], "x", 1):
        with pytest.raises(InvalidRequest) as caught:
            CHECKS[table.endpoint](body, LIMITS)
        assert caught.value.code == "invalid_type"
    with pytest.raises(InvalidRequest) as caught:
        CHECKS[table.endpoint](BASES[table.endpoint] | {"modle": 1}, LIMITS)
    assert (caught.value.param, caught.value.code) == ("modle", "unknown_parameter")
    assert "Did you mean 'model'?" in caught.value.message


@pytest.mark.parametrize(
    ("inputs", "count", "texts", "tokens"),
    [
        ("hé", 1, ["hé"], ()),
        (["a"] * 2048, 2048, ["a"] * 2048, ()),
        ([1, 2, 3], 1, [], (3,)),
        ([[1, 2], [3]], 2, [], (2, 1)),
    ],
)
def test_every_kind_of_input_is_counted(
    inputs: Any, count: int, texts: list[str], tokens: tuple[int, ...]
) -> None:
    checked = check_embedding({"model": "m", "input": inputs}, LIMITS)
    assert isinstance(checked, AskedVectors)
    assert (checked.n, checked.token_prompts, checked.base64) == (count, tokens, False)
    assert checked.prompts == tuple([text] for text in texts)
    assert checked.engine_body == {"input": inputs}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": ""}, "input", "empty_string"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ["a", ""]}, "input", "empty_string"),
        ({"input": ["a"] * 2049}, "input", "array_above_max_length"),
        ({"input": [[1], []]}, "input[1]", "empty_array"),
        ({"input": [1, -1]}, "input", "integer_below_min_value"),
        ({"input": "half \ud800"}, "input", "invalid_value"),
        ({"encoding_format": "bytes"}, "encoding_format", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "integer_below_min_value"),
        ({"dimensions": True}, "dimensions", "invalid_type"),
        ({"messages": USER}, "messages", "unsupported_parameter"),
    ],
)
def test_a_bad_request_for_vectors(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_embedding(BASES[EMBEDDING.endpoint] | fields, LIMITS)
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "queries", "missing_required_parameter"),
        ({"text_1": "q"}, "text_2", "missing_required_parameter"),
        ({"items": "q"}, "queries", "missing_required_parameter"),
        ({"text_1": "q", "documents": "a"}, "text_1", "invalid_value"),
        ({"queries": "q", "documents": "a", "items": "b"}, "queries", "invalid_value"),
        ({"text_1": ["q", "r"], "text_2": "a"}, "text_1", "invalid_value"),
        ({"text_1": [], "text_2": "a"}, "text_1", "empty_array"),
        ({"text_1": "q", "text_2": [""]}, "text_2[0]", "empty_string"),
        ({"text_1": "q", "text_2": ["a"] * 2049}, "text_2", "array_above_max_length"),
        ({"text_1": "q", "text_2": [{"text": 1}]}, "text_2[0].text", "invalid_type"),
        ({"text_1": "q", "text_2": [{}]}, "text_2[0].text", "missing_required_parameter"),
        ({"text_1": "q", "text_2": [{"text": "a", "image": "b"}]}, "text_2[0].image",
         "unknown_parameter"),
        ({"text_1": "q", "text_2": ["\ud800"]}, "text_2[0]", "invalid_value"),
    ],
)  # fmt: skip
def test_a_bad_request_for_scores(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_score({"model": "m"} | fields, LIMITS)
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize(("top_n", "results"), [(None, 3), (0, 3), (2, 2), (9, 3)])
def test_how_many_results_a_ranking_has(top_n: int | None, results: int) -> None:
    body = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": top_n}
    ranking = check_rerank(body, LIMITS)
    assert isinstance(ranking, Ranking)
    assert (ranking.n, ranking.documents, ranking.shown) == (results, ("a", "b", "c"), True)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "prompt", "missing_required_parameter"),
        ({"prompt": "a", "messages": USER}, "prompt", "invalid_value"),
        ({"prompt": ["a"]}, "prompt", "invalid_type"),
        ({"prompt": "a", "tools": [TOOL]}, "tools", "invalid_value"),
        ({"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt", "invalid_value"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": USER, "continue_final_message": True}, "continue_final_message",
         "invalid_value"),
        ({"messages": USER, "chat_template": "{{ x }}"}, "chat_template", "unsupported_parameter"),
    ],
)  # fmt: skip
def test_a_bad_request_for_tokens(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_tokenize({"model": "m"} | fields, LIMITS)
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize(
    ("tokens", "code"),
    [
        ("a", "invalid_type"),
        ([1, "a"], "invalid_type"),
        ([True], "invalid_type"),
        ([-1], "integer_below_min_value"),
        ([2**31], "integer_above_max_value"),
    ],
)
def test_tokens_are_ids(tokens: Any, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_detokenize({"model": "m", "tokens": tokens}, LIMITS)
    assert (caught.value.param, caught.value.code) == ("tokens", code)
    assert check_detokenize({"model": "m", "tokens": []}, LIMITS).engine_body == {"tokens": []}


def test_going_on_with_a_message_opens_no_new_one() -> None:
    messages = [*USER, {"role": "assistant", "content": "So"}]
    body = {"model": "m", "messages": messages, "continue_final_message": True}
    assert check_tokenize(body, LIMITS).engine_body["add_generation_prompt"] is False
