import orjson
import pytest

from benchmarks.load.target import Target, body_of, target
from benchmarks.load.workload import Message, Planned
from serve.core.errors import SettingsError, SetupError

CHAT = Planned(
    id=0, offset_s=0, max_tokens=7,
    messages=(Message(role="system", content="be kind"), Message(role="user", content="hello")),
)  # fmt: skip


def test_an_address_is_taken_apart() -> None:
    found = target("https://api.example.com/v1/", "m", {"KEY": " sk-1\n"}, "KEY")
    assert (found.address, found.prefix, found.host) == (
        ("api.example.com", 443), "/v1", "api.example.com",
    )  # fmt: skip
    assert found.tls is not None
    assert found.key == "sk-1" and "sk-1" not in repr(found)
    data = found.encoded(CHAT, "salt", {"temperature": 0})
    assert data.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: api.example.com\r\n")
    assert b"authorization: Bearer sk-1\r\n" in data
    assert b"accept-encoding: identity\r\n" in data
    assert orjson.loads(data.partition(b"\r\n\r\n")[2])["temperature"] == 0


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a/v1", "http://", "http://a:b/v1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"http://127\.0\.0\.1:8000/v1"):
        target(url, "m", {})


def test_a_key_is_not_taken_from_the_address() -> None:
    with pytest.raises(SettingsError, match="does not belong"):
        target("http://me:sk-1@a/v1", "m", {})


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(SetupError, match="API_KEY is not set"):
        target("http://a/v1", "m", {"API_KEY": ""}, "API_KEY")


def test_a_chat_asks_for_usage_and_for_no_padding() -> None:
    assert body_of(CHAT, "m", "salt", "max_completion_tokens") == {
        "model": "m", "stream": True, "max_completion_tokens": 7,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "messages": [
            {"role": "system", "content": "salt be kind"}, {"role": "user", "content": "hello"},
        ],
    }  # fmt: skip
    assert body_of(CHAT, "m", "salt", "max_tokens")["max_tokens"] == 7


def test_responses_are_not_stored() -> None:
    body = body_of(CHAT.model_copy(update={"api": "responses"}), "m", "s", "max_completion_tokens")
    assert (body["store"], body["max_output_tokens"]) == (False, 7)
    assert body["input"][0]["content"] == "s be kind"


def test_embeddings_are_texts() -> None:
    asked = Planned(id=0, offset_s=0, api="embeddings", texts=("a", "b"))
    assert body_of(asked, "m", "s", "max_tokens") == {"model": "m", "input": ["s a", "s b"]}


def test_paths_are_under_the_prefix() -> None:
    plain: Target = target("http://127.0.0.1:1", "m", {})
    assert plain.encoded(CHAT, "s", {}).startswith(b"POST /chat/completions ")
