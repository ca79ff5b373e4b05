"""Two tenants at one server: nothing that is one's can be seen, used or ended by the other."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import Gateway
from tests.http.tenancy import CHAT, Desk, chat, refused, started

PROMPT = " ".join(f"word{n}" for n in range(200))
ITEM = {"type": "message", "role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = started(tmp_path_factory.mktemp("isolation"))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def desk(site: Gateway) -> Iterator[Desk]:
    with Desk(site) as one:
        one.tenant("ours")
        one.tenant("theirs")
        yield one


@dataclass(frozen=True)
class Owned:
    """What one tenant has, by the name that its id has in an address; and who asks for it."""

    client: httpx.Client
    ids: dict[str, str]


def made(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    whole: dict[str, Any] = answer.json()
    return whole


@pytest.fixture(scope="module")
def ours(desk: Desk) -> Iterator[Owned]:
    client = desk.asking("ours", "ours")
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": chat()}
    upload = {"file": ("in.jsonl", json.dumps(line).encode())}
    file = client.post("/v1/files", files=upload, data={"purpose": "batch"}).json()["id"]
    conversation = made(client, "/v1/conversations", {"items": [ITEM]})["id"]
    items = client.get(f"/v1/conversations/{conversation}/items").json()["data"]
    whole = {"purpose": "batch", "filename": "a", "bytes": 3, "mime_type": "text/plain"}
    batch = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    slow = {"model": "fake", "input": "fake:tokens=900 fake:pace=0.1", "background": True}
    owned = Owned(
        client,
        {
            "file_id": file,
            "upload_id": made(client, "/v1/uploads", whole)["id"],
            "batch_id": made(client, "/v1/batches", batch)["id"],
            "conversation_id": conversation,
            "item_id": items[0]["id"],
            "response_id": made(client, "/v1/responses", slow)["id"],
            "completion_id": made(client, CHAT, chat(store=True))["id"],
        },
    )
    yield owned
    assert client.post(f"/v1/responses/{owned.ids['response_id']}/cancel").is_success


@pytest.fixture(scope="module")
def theirs(desk: Desk) -> httpx.Client:
    return desk.asking("theirs", "theirs")


LISTS = ("/v1/files", "/v1/batches", CHAT)
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions/{completion_id}": {"metadata": {"a": "b"}},
    "/v1/conversations/{conversation_id}": {"metadata": {"a": "b"}},
    "/v1/conversations/{conversation_id}/items": {"items": [ITEM]},
    "/v1/uploads/{upload_id}/complete": {"part_ids": ["part_0"]},
}


def test_every_address_of_an_object_is_its_tenant_s_alone(
    site: Gateway, ours: Owned, theirs: httpx.Client
) -> None:
    """All routes of the document with an id in them, each asked with what is another's."""
    paths = site.client.get("/openapi.json").json()["paths"]
    asked = 0
    for path, methods in paths.items():
        names = re.findall(r"\{(\w+)\}", path)
        if not names or path == "/v1/models/{name}":
            continue
        filled = path.format(**ours.ids)
        for method in methods:
            if path.endswith("/parts"):
                answer = theirs.post(filled, files={"data": b"abc"})
            elif method == "post":
                answer = theirs.post(filled, json=BODIES.get(path))
            else:
                answer = theirs.request(method.upper(), filled)
            assert answer.status_code == 404, f"{method} {path}: {answer.text}"
            assert answer.json()["error"]["message"]
            asked += 1
    assert asked > 20
    for path in (
        "/v1/files/{file_id}", "/v1/batches/{batch_id}", "/v1/responses/{response_id}",
        "/v1/conversations/{conversation_id}/items/{item_id}",
        "/v1/chat/completions/{completion_id}",
    ):  # fmt: skip
        answer = ours.client.get(path.format(**ours.ids))
        assert answer.is_success, "it is there, and as it was"
    answer = ours.client.get(f"/v1/responses/{ours.ids['response_id']}")
    assert answer.json()["status"] in ("queued", "in_progress"), "nobody has cancelled it"


def test_lists_hold_one_s_own(ours: Owned, theirs: httpx.Client) -> None:
    for path in LISTS:
        assert theirs.get(path).json()["data"] == []
        assert ours.client.get(path).json()["data"]
    file = theirs.get("/v1/files", params={"after": ours.ids["file_id"]})
    assert file.status_code in (400, 404)


def test_nothing_goes_on_from_what_is_another_s(ours: Owned, theirs: httpx.Client) -> None:
    ask = {"model": "fake", "input": "hi"}
    reference = {"type": "item_reference", "id": ours.ids["item_id"]}
    for body in (
        ask | {"previous_response_id": ours.ids["response_id"]},
        ask | {"conversation": ours.ids["conversation_id"]},
        ask | {"input": [reference]},
    ):
        for path in ("/v1/responses", "/v1/responses/input_tokens"):
            answer = theirs.post(path, json=body)
            assert answer.status_code in (400, 404), answer.text
            assert "not found" in answer.text
    batch = {
        "input_file_id": ours.ids["file_id"], "endpoint": CHAT, "completion_window": "24h"
    }  # fmt: skip
    assert theirs.post("/v1/batches", json=batch).status_code == 404


def cached(client: httpx.Client, text: str, **more: Any) -> int:
    answer = client.post(CHAT, json=chat(text, **more))
    assert answer.is_success, answer.text
    return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_a_prompt_in_the_cache_is_found_by_its_tenant_alone(
    desk: Desk, ours: Owned, theirs: httpx.Client
) -> None:
    again = desk.asking("second", "ours")
    assert cached(ours.client, PROMPT) == 0
    assert cached(ours.client, PROMPT) > 150
    assert cached(again, PROMPT) > 150, "another key of the same tenant"
    assert cached(theirs, PROMPT) == 0
    completion = {"model": "fake", "prompt": f"b {PROMPT}"}
    for client, least in ((ours.client, 0), (ours.client, 150), (theirs, 0)):
        usage = client.post("/v1/completions", json=completion).json()["usage"]
        assert (usage["prompt_tokens_details"]["cached_tokens"] >= least) is True
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


def test_a_group_shares_for_as_long_as_it_is_one(desk: Desk) -> None:
    for name in ("a", "b"):
        desk.tenant(name, settings={"cache_group": "together"})
    a, b = desk.asking("k", "a"), desk.asking("k", "b")
    text = f"group {PROMPT}"
    assert cached(a, text) == 0
    assert cached(b, text) > 150
    answer = desk.admin.post("/admin/v1/tenants/b", json={"settings": {}})
    assert answer.json()["settings"] == {}
    assert cached(b, text) == 0
    assert cached(a, text) > 150


def test_a_client_chooses_no_salt(desk: Desk, theirs: httpx.Client) -> None:
    for path, body in (
        (CHAT, chat()),
        ("/v1/completions", {"model": "fake", "prompt": "hi"}),
        ("/v1/responses", {"model": "fake", "input": "hi"}),
        ("/v1/messages", chat(max_tokens=5)),
        ("/v1/embeddings", {"model": "fake", "input": "hi"}),
    ):
        answer = theirs.post(path, json=body | {"cache_salt": "guess"})
        assert answer.status_code == 400, path
        assert "cache_salt" in answer.text


def test_limits_of_one_s_own(desk: Desk, theirs: httpx.Client) -> None:
    desk.tenant("bounded", limits={"requests_per_minute": 1, "choices": 1})
    client = desk.asking("k", "bounded")
    assert client.post(CHAT, json=chat(n=2)).status_code == 400
    assert client.post(CHAT, json=chat()).headers["x-ratelimit-limit-requests"] == "1"
    refused(client.post(CHAT, json=chat()), 429, "rate_limit_exceeded")
    assert theirs.post(CHAT, json=chat(n=2)).is_success
    desk.admin.post("/admin/v1/tenants/bounded", json={"limits": {}})
    assert client.post(CHAT, json=chat(n=2)).is_success, "it counts at once"


def test_a_tenant_that_is_removed_leaves_nothing(site: Gateway, desk: Desk) -> None:
    desk.tenant("leaving")
    client = desk.asking("k", "leaving")
    stored = made(client, CHAT, chat(store=True))["id"]
    made(client, "/v1/conversations", {"items": [ITEM]})
    deadline_s = time.monotonic() + 5
    while not client.get(f"{CHAT}/{stored}").is_success:
        assert time.monotonic() < deadline_s
    line = {"method": "POST", "url": CHAT, "body": chat("fake:tokens=50 fake:pace=0.05")}
    lines = "\n".join(json.dumps({"custom_id": f"{n}"} | line) for n in range(100))
    upload = {"file": ("in.jsonl", lines.encode())}
    file = client.post("/v1/files", files=upload, data={"purpose": "batch"}).json()["id"]
    batch = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    running = made(client, "/v1/batches", batch)["id"]
    while client.get(f"/v1/batches/{running}").json()["status"] != "in_progress":
        assert time.monotonic() < deadline_s
    gone = desk.admin.delete("/admin/v1/tenants/leaving").json()
    assert (gone["deleted"], gone["objects"]) == (True, 4)
    refused(client.get("/v1/models"), 401, "invalid_api_key")
    again = desk.admin.post("/admin/v1/tenants", json={"name": "leaving"})
    assert "not given twice" in refused(again, 409, "conflict")
    refused(desk.admin.delete("/admin/v1/tenants/default"), 409, "conflict")
    while running in [one["id"] for one in desk.admin.get("/admin/v1/batches").json()["data"]]:
        assert time.monotonic() < deadline_s
    time.sleep(0.3)
    assert '"level":"error"' not in (site.var_dir / "stderr.txt").read_text()
