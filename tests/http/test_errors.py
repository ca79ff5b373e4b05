"""Bad input and bad addresses: OpenAI's error shape, before anything reaches the engine."""

import re
from typing import Any

import httpx
import pytest

from tests.conftest import Gateway

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}


def served(gateway: Gateway) -> int:
    """Generations the engine has been asked for."""
    page = gateway.client.get("/metrics").text
    found = re.search(r"^fake_requests_served_total\{.*\} (\d+)", page, re.MULTILINE)
    assert found is not None
    return int(found.group(1))


def assert_error(answer: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]
    assert answer.headers["x-request-id"].startswith("req_")
    assert int(answer.headers["openai-processing-ms"]) >= 0
    return error


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"model": "\xff"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"[]", "invalid_type"),
        (b'"text"', "invalid_type"),
        (b"null", "invalid_type"),
        (b"{}", "missing_required_parameter"),
    ],
)
def test_bodies_that_are_no_request(gateway: Gateway, content: bytes, code: str) -> None:
    before = served(gateway)
    assert_error(gateway.client.post(CHAT, content=content), 400, code)
    assert served(gateway) == before


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"n": 0}, "n"),
        ({"n": 10_000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"temprature": 1}, "temprature"),
        ({"prompt_embeds": "x"}, "prompt_embeds"),
        ({"cache_salt": "x"}, "cache_salt"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ],
)
def test_a_bad_field_is_named(gateway: Gateway, change: dict[str, Any], param: str) -> None:
    before = served(gateway)
    answer = gateway.client.post(CHAT, json=GOOD | change)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert param in error["message"]
    assert served(gateway) == before


def test_a_body_of_20_mb_is_refused_and_read_by_its_sender(gateway: Gateway) -> None:
    body = GOOD | {"messages": [{"role": "user", "content": "x" * 20_000_000}]}
    assert_error(gateway.client.post(CHAT, json=body), 413, "request_too_large")

    def chunked() -> Any:
        yield from (b"x" * 1_000_000 for _ in range(20))

    assert_error(gateway.client.post(CHAT, content=chunked()), 413, "request_too_large")


def test_a_prompt_beyond_the_context_is_refused_before_the_stream(gateway: Gateway) -> None:
    body = GOOD | {"messages": [{"role": "user", "content": "word " * 9000}], "stream": True}
    error = assert_error(gateway.client.post(CHAT, json=body), 400, "context_length_exceeded")
    assert "8192" in error["message"]
    whole = GOOD | {"max_tokens": 9000}
    assert_error(gateway.client.post(CHAT, json=whole), 400, "context_length_exceeded")


def test_an_unknown_model_lists_the_served_ones(gateway: Gateway) -> None:
    before = served(gateway)
    error = assert_error(
        gateway.client.post(CHAT, json=GOOD | {"model": "gpt-9"}), 404, "model_not_found"
    )
    assert "fake" in error["message"]
    assert error["param"] == "model"
    assert served(gateway) == before


def test_unknown_addresses_and_methods(gateway: Gateway) -> None:
    assert_error(gateway.client.get("/v1/nothing"), 404, "unknown_url")
    assert_error(gateway.client.post("/v1/fine_tuning/jobs", json={}), 404, "unknown_url")
    answer = gateway.client.get("/v1/completions")
    assert_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_without_a_key_nothing_is_read(gateway: Gateway, path: str) -> None:
    with httpx.Client(base_url=gateway.url) as stranger:
        answer = stranger.post(path, content=b"{")
        assert_error(answer, 401, "missing_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        wrong = stranger.post(path, content=b"{", headers={"Authorization": "Bearer sk-x"})
        assert_error(wrong, 401, "invalid_api_key")
        right = stranger.post(path, content=b"{", headers={"x-api-key": gateway.key})
        assert_error(right, 400, "invalid_json")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/fake"])
def test_models_need_a_key(gateway: Gateway, path: str) -> None:
    assert_error(httpx.get(gateway.url + path), 401, "missing_api_key")


def test_request_ids_are_unique_and_in_the_log(gateway: Gateway) -> None:
    ids = {gateway.client.post(CHAT, json=GOOD).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20
    log = (gateway.var_dir / "stderr.txt").read_text()
    assert all(one in log for one in ids)


def test_the_log_holds_no_prompt(gateway: Gateway) -> None:
    secret = "xyzzy-prompt"
    body = GOOD | {"messages": [{"role": "user", "content": f"{secret} fake:say=plugh"}]}
    assert "plugh" in gateway.client.post(CHAT, json=body).text
    log = (gateway.var_dir / "stderr.txt").read_text()
    assert secret not in log
    assert "plugh" not in log
