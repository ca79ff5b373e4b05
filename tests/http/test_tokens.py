"""`/tokenize` and `/detokenize`, over the fake engine."""

from typing import Any

import pytest

from tests.conftest import Gateway

TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "two words", "parameters": {"type": "object"}},
}


def ask(gateway: Gateway, path: str = "/tokenize", **body: Any) -> Any:
    answer = gateway.client.post(path, json={"model": "fake", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_tokens_of_a_prompt(gateway: Gateway) -> None:
    assert ask(gateway, prompt="a b c") == {
        "count": 3,
        "max_model_len": 8192,
        "tokens": [0, 1, 2],
        "token_strs": None,
    }
    assert ask(gateway, prompt="a b", return_token_strs=True)["token_strs"] == ["a", "b"]
    assert ask(gateway, prompt="")["count"] == 0


def test_the_tokens_of_a_chat(gateway: Gateway) -> None:
    messages = [{"role": "developer", "content": "a b"}, {"role": "user", "content": "c"}]
    assert ask(gateway, messages=messages)["count"] == 3
    assert ask(gateway, messages=messages, tools=[TOOL])["count"] == 6


def test_the_text_of_tokens(gateway: Gateway) -> None:
    assert ask(gateway, "/detokenize", tokens=[3, 4]) == {"prompt": "w3 w4"}
    assert ask(gateway, "/detokenize", tokens=[]) == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "nothing": 1}, "nothing"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
    ],
)
def test_a_bad_request(gateway: Gateway, path: str, body: dict[str, Any], param: str) -> None:
    answer = gateway.client.post(path, json={"model": "fake", **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_no_tokens_are_used_up(gateway: Gateway) -> None:
    def counted() -> list[str]:
        page = gateway.client.get("/metrics").text.splitlines()
        return [line for line in page if line.startswith("inhouse_tokens_total")]

    ask(gateway, prompt="a")
    before = counted()
    ask(gateway, prompt="a b c")
    ask(gateway, "/detokenize", tokens=[1])
    assert counted() == before
    page = gateway.client.get("/metrics").text
    for endpoint in ("tokenize", "detokenize"):
        assert f'endpoint="{endpoint}",model="fake",outcome="ok"' in page
