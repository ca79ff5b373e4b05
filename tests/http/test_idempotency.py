"""`Idempotency-Key` over a real gateway: what is sent again is not run again."""

import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Gateway
from tests.http.conftest import assert_no_failure
from tests.http.tenancy import CHAT, Desk, chat, refused, started


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("idempotency")
    running = started(folder)
    yield running
    assert running.stop() == 0
    assert_no_failure(folder)


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def is_replayed(answer: httpx.Response) -> bool:
    assert answer.headers.get("idempotent-replayed") in (None, "true")
    return "idempotent-replayed" in answer.headers


def run_so_far(gateway: Gateway) -> int:
    """Requests that engines have answered, whatever came of them."""
    page = gateway.client.get("/metrics").text
    counts = re.findall(r'^inhouse_requests_total\{.*model="fake-.*\} (\S+)$', page, re.MULTILINE)
    counts += re.findall(r'^inhouse_requests_total\{.*model="fake".*\} (\S+)$', page, re.MULTILINE)
    return int(sum(map(float, counts)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat("fake:tokens=3")),
        (CHAT, chat("fake:tokens=3", stream=True)),
        ("/v1/completions", {"model": "fake", "prompt": "fake:tokens=3"}),
        ("/v1/responses", {"model": "fake", "input": "fake:tokens=3"}),
        ("/v1/responses", {"model": "fake", "input": "fake:tokens=3", "stream": True}),
        ("/v1/messages", chat("fake:tokens=3", max_tokens=9)),
        ("/v1/messages", chat("fake:tokens=3", max_tokens=9, stream=True)),
        ("/v1/conversations", {"metadata": {"a": "b"}}),
    ],
)
def test_what_is_sent_again_is_answered_as_before(
    gateway: Gateway, path: str, body: dict[str, Any]
) -> None:
    headers = key()
    first = gateway.client.post(path, json=body, headers=headers)
    assert (first.status_code, is_replayed(first)) == (200, False)
    before = run_so_far(gateway)
    again = gateway.client.post(path, json=body, headers=headers)
    assert (again.status_code, is_replayed(again)) == (200, True)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert run_so_far(gateway) == before
    other = gateway.client.post(path, json=body, headers=key())
    assert not is_replayed(other)


def test_a_key_means_one_request(gateway: Gateway) -> None:
    headers = key()
    assert gateway.client.post(CHAT, json=chat(), headers=headers).is_success
    for path, body in ((CHAT, chat("another")), ("/v1/responses", chat())):
        answer = gateway.client.post(path, json=body, headers=headers)
        assert "new key" in refused(answer, 422, "idempotency_key_reused")
    longer = chat("long " * 100_000)
    answer = gateway.client.post(CHAT, json=longer, headers=headers)
    refused(answer, 422, "idempotency_key_reused")


def test_a_key_is_a_tenants(gateway: Gateway) -> None:
    headers = key()
    with Desk(gateway) as desk:
        desk.tenant("beta")
        mine, theirs = desk.asking("a"), desk.asking("b", "beta")
        ids = [one.post(CHAT, json=chat(), headers=headers).json()["id"] for one in (mine, theirs)]
        assert ids[0] != ids[1]
        assert mine.post(CHAT, json=chat(), headers=headers).json()["id"] == ids[0]
        colleague = desk.asking("c")
        assert colleague.post(CHAT, json=chat(), headers=headers).json()["id"] == ids[0]


def test_an_answer_is_told_to_those_who_may_ask_for_it(gateway: Gateway) -> None:
    headers = key()
    with Desk(gateway) as desk:
        writer = desk.asking("writer")
        reader = desk.asking("reader", scopes={"endpoints": ["files"]})
        assert writer.post(CHAT, json=chat(), headers=headers).is_success
        refused(reader.post(CHAT, json=chat(), headers=headers), 422, "idempotency_key_reused")
        refused(reader.post(CHAT, json=chat(), headers=key()), 403, "permission_denied")


def test_one_of_fifty_at_once_is_run(gateway: Gateway) -> None:
    headers, before = key(), run_so_far(gateway)
    body = chat("fake:tokens=10 fake:pace=0.05")

    def ask(_: int) -> httpx.Response:
        return httpx.post(
            f"{gateway.url}{CHAT}", json=body, timeout=30,
            headers={"Authorization": f"Bearer {gateway.key}"} | headers,
        )  # fmt: skip

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    done = [one for one in answers if one.status_code == 200]
    assert sum(not is_replayed(one) for one in done) == 1
    assert len({one.content for one in done}) == 1
    for one in answers:
        if one not in done:
            refused(one, 409, "idempotency_key_in_flight")
            assert one.headers["retry-after"] == "1"
            assert one.headers["x-should-retry"] == "true"
    assert ask(0).content == done[0].content
    assert run_so_far(gateway) == before + 1


def test_the_sdks_own_retries_get_the_first_ones_result(gateway: Gateway) -> None:
    headers, body = key(), chat("fake:tokens=10 fake:pace=0.1")
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=5) as sdk,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(gateway.client.post, CHAT, json=body, headers=headers)
        time.sleep(0.3)
        # Refused while that one runs, it asks again by itself.
        answer = sdk.chat.completions.create(**body, extra_headers=headers)
        assert answer.id == first.result().json()["id"]


@pytest.mark.parametrize("text", ["fake:status=500", "fake:tokens=4 fake:error@2"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_failed_may_be_tried_again(gateway: Gateway, text: str, *, stream: bool) -> None:
    headers = key()
    for _ in range(2):
        answer = gateway.client.post(CHAT, json=chat(text, stream=stream), headers=headers)
        assert "error" in answer.text
        assert not is_replayed(answer)


def test_what_was_refused_may_be_put_right(gateway: Gateway) -> None:
    headers = key()
    wrong = gateway.client.post(CHAT, json=chat(temperature=9), headers=headers)
    assert wrong.status_code == 400
    right = gateway.client.post(CHAT, json=chat(temperature=1), headers=headers)
    assert (right.status_code, is_replayed(right)) == (200, False)


def test_whoever_leaves_and_comes_back_has_it_run_anew(gateway: Gateway) -> None:
    headers, body = key(), chat("fake:tokens=20 fake:pace=0.05", stream=True)
    with gateway.client.stream("POST", CHAT, json=body, headers=headers) as answer:
        first = next(answer.iter_lines())
    deadline_s = time.monotonic() + 10
    while (again := gateway.client.post(CHAT, json=body, headers=headers)).status_code == 409:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert not is_replayed(again)
    assert again.text.rstrip().endswith("data: [DONE]")
    assert first not in again.text


def test_an_upload_is_told_by_its_content(gateway: Gateway) -> None:
    headers = key()

    def upload(content: bytes) -> httpx.Response:
        # httpx draws a boundary for each request, as the SDKs do at each try.
        return gateway.client.post(
            "/v1/files", headers=headers, data={"purpose": "user_data"},
            files={"file": ("a.txt", content)},
        )  # fmt: skip

    first = upload(b"content" * 50_000)
    again = upload(b"content" * 50_000)
    assert again.json() == first.json()
    assert (is_replayed(first), is_replayed(again)) == (False, True)
    refused(upload(b"contents" * 50_000), 422, "idempotency_key_reused")


def test_a_new_key_is_shown_once(gateway: Gateway) -> None:
    headers = key()
    with Desk(gateway) as desk:
        operator = desk.asking("operator", scopes={"admin": True})
        body = {"name": "made-once", "tenant": "default"}
        first = operator.post("/admin/v1/keys", json=body, headers=headers)
        assert first.json()["key"].startswith("sk-")
        again = operator.post("/admin/v1/keys", json=body, headers=headers)
        refused(again, 409, "idempotent_result_not_kept")


@pytest.mark.parametrize(
    ("values", "why"),
    [([b""], "0 characters"), ([b"x" * 256], "256 characters"), ([b"caf\xe9"], "printable"),
     ([b"a", b"b"], "more than one")],
)  # fmt: skip
def test_a_key_that_is_none_is_refused(gateway: Gateway, values: list[bytes], why: str) -> None:
    headers = [(b"idempotency-key", one) for one in values]
    answer = gateway.client.post(CHAT, json=chat(), headers=headers)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "Idempotency-Key"
    assert why in error["message"]


def test_every_address_heeds_it(gateway: Gateway) -> None:
    paths = gateway.client.get("/openapi.json").json()["paths"]
    posts = [path for path, verbs in paths.items() if "post" in verbs]
    assert len(posts) > 20
    for path in posts:
        answer = gateway.client.post(path, json={}, headers={"Idempotency-Key": "x" * 256})
        assert answer.status_code == 400, path
        assert "Idempotency-Key" in answer.text, path
        stranger = httpx.post(f"{gateway.url}{path}", json={}, headers=key())
        assert stranger.status_code == 401, path


def test_a_killed_server_leaves_no_key_stuck(tmp_path: Path) -> None:
    running = started(tmp_path)
    headers, body = key(), chat("fake:tokens=400 fake:pace=0.05", stream=True)
    kept = key()
    whole = running.client.post(CHAT, json=chat(), headers=kept)
    with running.client.stream("POST", CHAT, json=body, headers=headers) as answer:
        next(answer.iter_lines())
        running.process.kill()
        running.process.wait()
    running.client.close()
    for name in ("models", "site.yaml", "starter.key"):
        (tmp_path / name).rename(tmp_path / f"{name}.old")
    again = started(tmp_path)
    try:
        short = chat("fake:tokens=2")
        answer = again.client.post(CHAT, json=short, headers=headers)
        assert (answer.status_code, is_replayed(answer)) == (200, False)
        replay = again.client.post(CHAT, json=chat(), headers=kept)
        assert (replay.content, is_replayed(replay)) == (whole.content, True)
    finally:
        assert again.stop() == 0
