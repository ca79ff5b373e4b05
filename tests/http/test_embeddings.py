"""`/v1/embeddings`, `/v1/score` and `/v1/rerank` with the openai SDK and bare HTTP, over fakes."""

import base64
import json
import math
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Gateway, start_site
from tests.http.conftest import chat_and_vectors

PATH = "/v1/embeddings"
MODEL = "vectors-2026-11-01"
SITE = """\
site: t
root: .
model_files: models
auth: {mode: none}
engine_defaults: {kind: fake}
models:
  - {use: chat}
  - {use: vectors, snapshot: 2026-11-01, aliases: [near]}
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A model that generates beside one that embeds."""
    folder = tmp_path_factory.mktemp("embeddings")
    running = start_site(folder, SITE, chat_and_vectors(20))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def sdk(both: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{both.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(gateway: Gateway, path: str = PATH, **body: Any) -> httpx.Response:
    return gateway.client.post(path, json={"model": "near", **body})


def refused(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["param"], error["code"]


def test_the_encodings_are_the_same_vectors(sdk: openai.OpenAI) -> None:
    texts = ["a cat", "a dog"]
    plain = sdk.embeddings.create(model="near", input=texts, encoding_format="float")
    encoded = sdk.embeddings.create(model="near", input=texts, encoding_format="base64")
    # The SDK asks for base64 by itself, and decodes it.
    default = sdk.embeddings.create(model="near", input=texts)
    assert not plain.model_extra
    assert (plain.object, plain.model) == ("list", MODEL)
    assert plain.usage.model_dump() == {"prompt_tokens": 4, "total_tokens": 4}
    for index, one in enumerate(plain.data):
        assert (one.index, one.object, len(one.embedding)) == (index, "embedding", 384)
        assert math.isclose(math.hypot(*one.embedding), 1, rel_tol=1e-6)
        text: Any = encoded.data[index].embedding
        assert list(struct.unpack("<384f", base64.b64decode(text))) == one.embedding
        assert default.data[index].embedding == one.embedding


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_an_answer_has_the_hosted_api_s_fields_and_no_others(
    both: Gateway, encoding: str | None
) -> None:
    answer = ask(both, input="a b c", encoding_format=encoding, user="u")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert list(body) == ["object", "data", "model", "usage"]
    assert [list(one) for one in body["data"]] == [["object", "index", "embedding"]]
    assert isinstance(body["data"][0]["embedding"], str if encoding == "base64" else list)
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_a_batch_of_2048_inputs_comes_back_in_order(sdk: openai.OpenAI) -> None:
    texts = [f"text {number % 40}" for number in range(2048)]
    answer = sdk.embeddings.create(model="near", input=texts)
    assert [one.index for one in answer.data] == list(range(2048))
    assert answer.usage.prompt_tokens == 4096
    for number in (40, 2047):
        assert answer.data[number].embedding == answer.data[number % 40].embedding
    assert answer.data[0].embedding != answer.data[1].embedding


def test_tokens_are_inputs_too(sdk: openai.OpenAI) -> None:
    one = sdk.embeddings.create(model="near", input=[1, 2, 3])
    several = sdk.embeddings.create(model="near", input=[[1, 2, 3], [4]])
    assert one.usage.prompt_tokens == 3
    assert several.usage.prompt_tokens == 4
    assert several.data[0].embedding == one.data[0].embedding
    assert several.data[1].embedding != one.data[0].embedding


def test_dimensions_are_honoured_or_refused_by_name(both: Gateway, sdk: openai.OpenAI) -> None:
    cut = sdk.embeddings.create(model="near", input="a", dimensions=64, encoding_format="float")
    assert len(cut.data[0].embedding) == 64
    answer = ask(both, input="a", dimensions=100)
    assert refused(answer) == (400, "dimensions", "invalid_value")
    assert "100" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "inputs", ["w " * 21, ["w", "w " * 21], [1] * 21, [[1], [1] * 21]], ids=str
)
def test_an_input_that_is_too_long_is_not_cut(both: Gateway, inputs: Any) -> None:
    assert refused(ask(both, input=inputs)) == (400, "input", "context_length_exceeded")


@pytest.mark.parametrize("inputs", ["w " * 20, [1] * 20])
def test_an_input_may_fill_the_context(both: Gateway, inputs: Any) -> None:
    assert ask(both, input=inputs).json()["usage"]["prompt_tokens"] == 20


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, {"input": "a"}),
        ("/v1/score", {"text_1": "a", "text_2": "b"}),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ],
)
def test_a_model_that_generates_makes_no_embeddings(
    both: Gateway, path: str, body: dict[str, Any]
) -> None:
    answer = ask(both, path, **body, model="chat")
    assert refused(answer) == (400, "model", "unsupported_model")
    assert answer.json()["error"]["message"] == (
        "The model chat generates text; it does not make embeddings."
    )
    assert refused(ask(both, path, **body, model="none")) == (404, "model", "model_not_found")


def test_scores_are_the_embeddings_cosines(both: Gateway, sdk: openai.OpenAI) -> None:
    answer = ask(both, "/v1/score", queries="a cat", documents=["a dog", "a cat"])
    body = answer.json()
    assert set(body) == {"id", "object", "created", "model", "data", "usage"}
    assert (body["object"], body["model"]) == ("list", MODEL)
    assert body["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    assert [(one["index"], one["object"]) for one in body["data"]] == [(0, "score"), (1, "score")]
    one, other = (
        sdk.embeddings.create(model="near", input=text).data[0].embedding
        for text in ("a cat", "a dog")
    )
    cosine = sum(a * b for a, b in zip(one, other, strict=True))
    assert math.isclose(body["data"][0]["score"], cosine, abs_tol=1e-6)
    assert math.isclose(body["data"][1]["score"], 1, rel_tol=1e-6)
    several = ask(both, "/v1/score", text_1=["a", "b"], text_2=["b", "b"]).json()["data"]
    assert [round(each["score"], 3) == 1 for each in several] == [False, True]


def test_a_ranking(both: Gateway) -> None:
    documents: list[Any] = ["a dog", {"text": "a cat"}, "a horse"]
    body = ask(both, "/v1/rerank", query="a cat", documents=documents).json()
    assert set(body) == {"id", "model", "results", "usage"}
    assert body["id"].startswith("rerank-")
    assert body["model"] == MODEL
    assert body["results"][0]["index"] == 1
    assert sorted(one["index"] for one in body["results"]) == [0, 1, 2]
    relevance = [one["relevance_score"] for one in body["results"]]
    assert relevance == sorted(relevance, reverse=True)
    assert body["results"][0]["document"] == {"text": "a cat"}
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] == 12
    best = ask(
        both, "/v1/rerank", query="a cat", documents=documents, top_n=1, return_documents=False
    ).json()["results"]
    assert [set(one) for one in best] == [{"index", "relevance_score"}]


def test_a_text_to_score_that_is_too_long_is_refused(both: Gateway) -> None:
    long = "w " * 21
    ranked = ask(both, "/v1/rerank", query="a", documents=["b", long])
    assert refused(ranked) == (400, "documents", "context_length_exceeded")
    scored = ask(both, "/v1/score", text_1=long, text_2="b")
    assert refused(scored) == (400, None, "context_length_exceeded")


def series(gateway: Gateway, start: str) -> float:
    lines = gateway.client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


def test_every_request_is_metered_once(both: Gateway) -> None:
    ended = f'inhouse_requests_total{{endpoint="%s",model="{MODEL}",outcome="ok"}}'
    tokens = f'inhouse_tokens_total{{kind="prompt",model="{MODEL}"}}'
    names = ("embeddings", "score", "rerank")
    before = [series(both, ended % name) for name in names], series(both, tokens)
    ask(both, input=["a b", "c"])
    ask(both, "/v1/score", text_1="a", text_2="b")
    ask(both, "/v1/rerank", query="a", documents=["b", "c"])
    after = [series(both, ended % name) for name in names], series(both, tokens)
    assert [new - old for old, new in zip(before[0], after[0], strict=True)] == [1, 1, 1]
    assert after[1] - before[1] == 3 + 2 + 4


@pytest.mark.parametrize(("status", "found"), [(500, 500), (503, 429)])
def test_an_engine_that_refuses(both: Gateway, status: int, found: int) -> None:
    answer = ask(both, input=f"fake:status={status}")
    assert answer.status_code == found
    assert refused(answer)[1] is None


def test_a_client_that_goes_away_ends_its_request(both: Gateway) -> None:
    cancelled = f'inhouse_requests_total{{endpoint="embeddings",model="{MODEL}",outcome="cancelled"'
    before = series(both, cancelled)
    with pytest.raises(httpx.ReadTimeout):
        both.client.post(PATH, json={"model": "near", "input": "fake:prefill=30"}, timeout=0.3)
    deadline_s = time.monotonic() + 5
    while series(both, cancelled) == before:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    running = series(both, f'vllm:num_requests_running{{model="{MODEL}"')
    assert running == 0


def test_an_engine_that_dies_costs_no_request(both: Gateway) -> None:
    answers: list[httpx.Response] = []
    slow = {"model": "near", "input": "fake:prefill=1 a"}
    asking = threading.Thread(target=lambda: answers.append(both.client.post(PATH, json=slow)))
    asking.start()
    time.sleep(0.3)
    for pid in both.engine_pids():
        if b"vectors" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    asking.join(30)
    assert [one.status_code for one in answers] == [200]
    assert len(answers[0].json()["data"][0]["embedding"]) == 384


def test_a_batch_s_lines_may_be_embeddings(sdk: openai.OpenAI) -> None:
    lines = [
        json.dumps({"custom_id": f"l{number}", "method": "POST", "url": PATH,
                    "body": {"model": "near", "input": ["a", "b"]}})
        for number in range(3)
    ]  # fmt: skip
    file = sdk.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = sdk.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
    )
    deadline_s = time.monotonic() + 20
    while batch.status in ("validating", "in_progress", "finalizing"):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
        batch = sdk.batches.retrieve(batch.id)
    assert batch.output_file_id is not None
    found = [json.loads(line) for line in sdk.files.content(batch.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in found] == ["l0", "l1", "l2"]
    assert all(len(one["response"]["body"]["data"]) == 2 for one in found)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, {"model": "fake", "input": "a"}),
        ("/v1/score", {"model": "fake", "text_1": "a", "text_2": "b"}),
        ("/v1/rerank", {"model": "fake", "query": "a", "documents": ["b"]}),
        ("/tokenize", {"model": "fake", "prompt": "a"}),
        ("/detokenize", {"model": "fake", "tokens": [1]}),
    ],
)
def test_nothing_is_answered_without_a_key(
    gateway: Gateway, path: str, body: dict[str, Any]
) -> None:
    for headers, code in (({}, "missing_api_key"), ({"x-api-key": "sk-no"}, "invalid_api_key")):
        answer = httpx.post(f"{gateway.url}{path}", json=body, headers=headers)
        assert refused(answer) == (401, None, code)
    assert gateway.client.get(path).status_code == 405
