"""Embeddings, scores and tokens on real weights."""

import base64
import math
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Gateway, start_gateway
from tests.e2e.conftest import READY_TIMEOUT_S, ROOT, write_site

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

# The model that generates is never asked for, so that only the small one is loaded.
SITE = """\
site: embeddings
root: {root}
model_files: {root}/configs/models
var_dir: {var_dir}
limits: {{ready_wait_s: 300}}
models:
  - use: minilm-l6
    snapshot: 2026-11-01
    aliases: [near]
    cpu_kv_gib: 1
  - use: smollm2-135m
    load: on_demand
    cpu_kv_gib: 1
"""
SNAPSHOT = "minilm-l6-2026-11-01"


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    if not (ROOT / "models" / "minilm-l6" / "config.json").is_file():
        pytest.fail("models/minilm-l6 is missing; run: make models")
    folder = tmp_path_factory.mktemp("minilm")
    gateway = start_gateway(
        folder, "serve", "--site", str(write_site(folder, SITE)), "--starter-key",
        ready_timeout_s=READY_TIMEOUT_S,
    )  # fmt: skip
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(scope="module")
def client(minilm: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{minilm.url}/v1", api_key=minilm.key, max_retries=0) as sdk:
        yield sdk


def ask(gateway: Gateway, path: str, **body: Any) -> httpx.Response:
    return gateway.client.post(path, json={"model": "near", **body})


def test_the_encodings_agree_on_real_vectors(minilm: Gateway, client: openai.OpenAI) -> None:
    texts = ["hello world", "a much longer text about nothing in particular"]
    plain = client.embeddings.create(model="near", input=texts, encoding_format="float")
    encoded = ask(minilm, "/v1/embeddings", input=texts, encoding_format="base64").json()["data"]
    assert (plain.model, plain.object) == (SNAPSHOT, "list")
    assert not plain.model_extra
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == 4 + 10
    for one, other in zip(plain.data, encoded, strict=True):
        numbers = struct.unpack("<384f", base64.b64decode(other["embedding"]))
        assert list(numbers) == pytest.approx(one.embedding, abs=1e-6)
    # What transformers makes of it in float32: the mean of the last layer, of length 1. A machine
    # that multiplies in bfloat16 keeps three digits; a number of this vector is 0.05 at its middle.
    near = [-0.03448, 0.03102, 0.00673]
    assert plain.data[0].embedding[:3] == pytest.approx(near, abs=4e-3)
    assert math.hypot(*plain.data[0].embedding) == pytest.approx(1, abs=1e-3)


def test_tokens_make_the_vector_of_their_text(minilm: Gateway, client: openai.OpenAI) -> None:
    found = ask(minilm, "/tokenize", prompt="hello world", return_token_strs=True).json()
    assert found == {
        "count": 4,
        "max_model_len": 256,
        "tokens": [101, 7592, 2088, 102],
        "token_strs": ["[CLS]", "hello", "world", "[SEP]"],
    }
    said = ask(minilm, "/detokenize", tokens=found["tokens"]).json()
    assert said == {"prompt": "[CLS] hello world [SEP]"}
    answer = client.embeddings.create(model="near", input=[found["tokens"], [999]])
    text = client.embeddings.create(model="near", input="hello world")
    assert answer.usage.prompt_tokens == 5
    assert answer.data[0].embedding == pytest.approx(text.data[0].embedding, abs=1e-5)


def test_what_the_model_cannot_do_is_refused_by_name(minilm: Gateway) -> None:
    def refused(**body: Any) -> tuple[int, str | None, str | None]:
        answer = ask(minilm, "/v1/embeddings", **body)
        error = answer.json()["error"]
        return answer.status_code, error["param"], error["code"]

    assert refused(input="a", dimensions=64) == (400, "dimensions", "invalid_value")
    # The words and two of the model's own are more than 256.
    assert refused(input="word " * 255) == (400, "input", "context_length_exceeded")
    assert refused(input="word " * 5000) == (400, "input", "context_length_exceeded")
    assert refused(input=[7] * 257) == (400, "input", "context_length_exceeded")
    assert refused(input=[30_522])[0] == 400
    assert refused(input="a", model="smollm2-135m") == (400, "model", "unsupported_model")
    assert ask(minilm, "/v1/embeddings", input="word " * 254).status_code == 200


def test_near_texts_are_ranked_first(minilm: Gateway) -> None:
    documents = ["The stock market fell.", "A kitten is a young cat."]
    scored = ask(minilm, "/v1/score", text_1="cats", text_2=documents).json()
    scores = [one["score"] for one in scored["data"]]
    assert scores[1] > scores[0] + 0.2
    ranked = ask(minilm, "/v1/rerank", query="cats", documents=documents, top_n=1).json()
    assert (scored["model"], ranked["model"]) == (SNAPSHOT, SNAPSHOT)
    best = ranked["results"]
    assert [(one["index"], one["document"]["text"]) for one in best] == [(1, documents[1])]
    assert best[0]["relevance_score"] == pytest.approx(scores[1], abs=1e-5)
    cut = ask(minilm, "/v1/rerank", query="cats", documents=["cat " * 400], max_tokens_per_doc=9)
    assert cut.json()["usage"]["prompt_tokens"] < 20
    beyond = ask(
        minilm, "/v1/rerank", query="cats", documents=["cat " * 300], max_tokens_per_doc=4096
    )
    assert beyond.json()["error"]["code"] == "context_length_exceeded"
