"""An engine's refusal becomes the client's business only where it is about its request."""

from dataclasses import replace

import pytest

from serve.core.call import Call, Principal
from serve.core.errors import ContextLengthExceeded, EngineError, InvalidRequest, Overloaded
from serve.stream.refusal import refusal


def call(endpoint: str = "chat.completions") -> Call:
    return Call(
        request_id="req_1", endpoint=endpoint, path="/", principal=Principal("k"), model_id="m",
        body={}, choices=1, include_usage=False, received_s=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ("chat.completions", "messages"),
        ("completions", "prompt"),
        ("responses", "input"),
        ("embeddings", "input"),
        ("rerank", "documents"),
        ("score", None),
    ],
)
def test_too_long_a_context_names_the_field(endpoint: str, field: str | None) -> None:
    error = refusal(call(endpoint), 400, b'{"error": {"message": "maximum context length is 8"}}')
    assert isinstance(error, ContextLengthExceeded)
    assert (error.param, error.message) == (field, "maximum context length is 8")


def test_what_is_wrong_with_a_request_is_told() -> None:
    error = refusal(call(), 422, b'{"error": {"message": "no such thing"}}')
    assert isinstance(error, InvalidRequest)
    assert error.message == "no such thing"


def test_a_refusal_of_dimensions_names_them() -> None:
    body = b'{"error": {"message": "dimensions must be unset (received dimensions=64)."}}'
    asked = replace(call("embeddings"), body={"input": "a", "dimensions": 64})
    assert refusal(asked, 400, body).param == "dimensions"
    assert refusal(call("embeddings"), 400, body).param is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"error": null}', b"[]"])
def test_one_without_words_is_told_so(body: bytes) -> None:
    error = refusal(call(), 400, body)
    assert isinstance(error, InvalidRequest)
    assert "without a reason" in error.message


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_engine_is_overload(status: int) -> None:
    assert isinstance(refusal(call(), status, b""), Overloaded)


def test_its_own_failures_are_not_told_in_its_words() -> None:
    error = refusal(call(), 500, b'{"error": {"message": "/secret/path"}}')
    assert type(error) is EngineError
    assert "secret" not in error.message
    assert "500" in error.message
