"""Images in chats, responses and messages, over a fake engine that a site says can see."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.api.fields.images import data_url, png
from tests.conftest import Gateway, start_site

SITE = """\
site: t
root: .
model_files: models
auth: {mode: none}
engine_defaults: {kind: fake}
models: [{use: seer}, {use: reader}]
"""
IMAGE = data_url(png(4, 3))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("images")
    models = {
        name: f"name: {name}\nimages: {images}\nsource: {{path: none}}\ncontext_tokens: 2000\n"
        for name, images in (("seer", 2), ("reader", 0))
    }
    running = start_site(folder, SITE, models)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def sdk(site: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def seen(url: str = IMAGE, count: int = 1) -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    return [
        {"role": "user", "content": [{"type": "text", "text": "what is it?"}, *[image] * count]}
    ]


def chat(site: Gateway, messages: list[dict[str, Any]], model: str = "seer") -> httpx.Response:
    body = {"model": model, "messages": messages}
    return site.client.post("/v1/chat/completions", json=body)


def refusal(answer: httpx.Response) -> tuple[int, str | None, str]:
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["message"]


def test_a_chat_may_hold_images(site: Gateway) -> None:
    assert chat(site, seen(count=2)).status_code == 200
    status, param, message = refusal(chat(site, seen(count=3)))
    assert (status, param) == (400, "messages")
    assert "3. The model seer takes at most 2 in one request" in message


def test_a_model_that_cannot_see_says_so(site: Gateway) -> None:
    status, param, message = refusal(chat(site, seen(), model="reader"))
    assert (status, param) == (400, "messages")
    assert message.endswith("The model reader takes none.")


def test_no_address_is_fetched(site: Gateway) -> None:
    at = "messages[0].content[1].image_url.url"
    for url in ("http://127.0.0.1:9/a.png", "https://example.org/a.png", "file:///etc/hosts"):
        status, param, message = refusal(chat(site, seen(url)))
        assert (status, param) == (400, at)
        assert "addresses are not fetched here" in message


def test_only_a_user_shows_images(site: Gateway) -> None:
    messages = [{**seen()[0], "role": "system"}, {"role": "user", "content": "hi"}]
    status, param, message = refusal(chat(site, messages))
    assert (status, param) == (400, "messages[0].content[1].type")
    assert "images in a user's message" in message


def test_responses_take_images_and_give_them_back(sdk: openai.OpenAI) -> None:
    content: Any = [
        {"type": "input_text", "text": "what is it?"},
        {"type": "input_image", "image_url": IMAGE, "detail": "high"},
    ]
    first = sdk.responses.create(model="seer", input=[{"role": "user", "content": content}])
    assert first.status == "completed"
    (item,) = sdk.responses.input_items.list(first.id).data
    assert item.to_dict()["content"][1] == {**content[1], "file_id": None}
    again: Any = [{"role": "user", "content": content[1:]}]
    second = sdk.responses.create(model="seer", input=again, previous_response_id=first.id)
    assert second.status == "completed"
    with pytest.raises(openai.BadRequestError, match="at most 2 in one request"):
        sdk.responses.create(model="seer", input=again, previous_response_id=second.id)
    lost: Any = [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]
    with pytest.raises(openai.BadRequestError, match="send the image itself"):
        sdk.responses.create(model="seer", input=lost)


def test_messages_take_images(site: Gateway) -> None:
    source: Any = {
        "type": "base64", "media_type": "image/png", "data": IMAGE.partition(",")[2],
    }  # fmt: skip
    text = {"type": "text", "text": "what is it?"}

    def ask(source: Any) -> anthropic.types.Message:
        content: Any = [{"type": "image", "source": source}, text]
        return client.messages.create(
            model="seer", max_tokens=9, messages=[{"role": "user", "content": content}]
        )

    with anthropic.Anthropic(base_url=site.url, api_key="none", max_retries=0) as client:
        assert ask(source).stop_reason in ("end_turn", "max_tokens")
        with pytest.raises(anthropic.BadRequestError, match="send the image itself"):
            ask({"type": "url", "url": "https://example.org/a.png"})
        with pytest.raises(anthropic.BadRequestError, match=r"not of type `image/webp`"):
            ask({**source, "media_type": "image/webp"})
