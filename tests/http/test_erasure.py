"""The end of what a tenant keeps, over a real gateway: erased, held, and one turn at a time."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Gateway, Inhouse
from tests.http.conftest import assert_no_failure
from tests.http.tenancy import CHAT, Desk, chat, refused, started


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("erasure")
    running = started(folder)
    yield running
    assert running.stop() == 0
    assert_no_failure(folder)


@pytest.fixture
def desk(gateway: Gateway) -> Iterator[Desk]:
    with Desk(gateway) as one:
        yield one


def respond(client: httpx.Client, text: str = "fake:tokens=2", **fields: Any) -> httpx.Response:
    return client.post("/v1/responses", json={"model": "fake", "input": text} | fields)


def filled(client: httpx.Client) -> dict[str, str]:
    """Something of everything: addresses by kind. A response and a batch are being made."""
    file = client.post(
        "/v1/files",
        data={"purpose": "batch"},
        files={"file": ("in.jsonl", b"".join(_line(n) for n in range(4)))},
    ).json()
    batch = client.post(
        "/v1/batches",
        json={"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"},
    )
    upload = {"purpose": "batch", "filename": "a", "mime_type": "b", "bytes": 4}
    assert client.post("/v1/uploads", json=upload).is_success
    running = respond(client, "fake:tokens=500 fake:pace=0.05", background=True).json()
    conversation = client.post("/v1/conversations", json={}).json()
    return {
        "response": f"/v1/responses/{respond(client).json()['id']}",
        "running": f"/v1/responses/{running['id']}",
        "conversation": f"/v1/conversations/{conversation['id']}",
        "completion": f"{CHAT}/{client.post(CHAT, json=chat(store=True)).json()['id']}",
        "file": f"/v1/files/{file['id']}",
        "batch": f"/v1/batches/{batch.json()['id']}",
    }


def _line(number: int) -> bytes:
    body = (
        b'{"model":"fake","messages":[{"role":"user","content":"fake:tokens=200 fake:pace=0.05"}]}'
    )
    return b'{"custom_id":"%d","method":"POST","url":"%s","body":%s}\n' % (
        number, CHAT.encode(), body,
    )  # fmt: skip


def test_an_erasure_leaves_nothing_and_nothing_comes_back(
    gateway: Gateway, desk: Desk, inhouse: Inhouse
) -> None:
    desk.tenant("leaves")
    desk.tenant("stays")
    leaves, stays = desk.asking("one", "leaves"), desk.asking("other", "stays")
    kept = filled(stays)
    gone = filled(leaves)
    folder = gateway.var_dir / "files"
    before = {path.name for path in folder.iterdir()}
    where = ("--socket", str(gateway.var_dir / "run" / "admin.sock"))

    unsaid = inhouse("tenants", "erase", "leaves", *where)
    assert unsaid.code == 2
    assert "Say --yes" in unsaid.err
    assert all(leaves.get(path).status_code == 200 for path in gone.values())

    done = inhouse("tenants", "erase", "leaves", "--yes", *where)
    assert done.code == 0, done.err
    told = [line.split() for line in done.out.splitlines()]
    assert told == [
        ["kind", "erased"], ["responses", "2"], ["conversations", "1"],
        ["chat", "completions", "1"], ["files", "1"], ["uploads", "1"], ["batches", "1"],
        ["idempotency", "keys", "0"], ["request", "texts", "0"], ["together", "7"],
        ["stopped", "first:", "1", "responses,", "1", "batches"],
    ]  # fmt: skip
    for _ in range(2):
        assert {kind: leaves.get(path).status_code for kind, path in gone.items()} == dict.fromkeys(
            gone, 404
        )
        assert not any(Path(path).name in {one.name for one in folder.iterdir()}
                       for path in gone.values())  # fmt: skip
        time.sleep(0.5)  # what was running would have written by now
    assert {kind: stays.get(path).status_code for kind, path in kept.items()} == dict.fromkeys(
        kept, 200
    )
    left = {path.name for path in folder.iterdir()}
    assert left < before
    assert leaves.get("/v1/files").json()["data"] == []
    again = desk.admin.post("/admin/v1/tenants/leaves/erase").json()
    assert set(again["erased"].values()) == {0}
    assert respond(leaves).status_code == 200, "its keys are good, and it begins anew"
    desk.admin.post("/admin/v1/tenants/stays/erase")


def test_a_response_that_was_being_made_is_not_kept(desk: Desk) -> None:
    desk.tenant("midway")
    client = desk.asking("one", "midway")
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(respond(client, "fake:tokens=20 fake:pace=0.05"))
    )
    asking.start()
    time.sleep(0.3)
    erased = desk.admin.post("/admin/v1/tenants/midway/erase").json()
    assert set(erased["erased"].values()) == {0}
    asking.join()
    refused(answers[0], 409, "tenant_erased")


def test_a_hold_keeps_what_its_client_deletes(
    gateway: Gateway, desk: Desk, inhouse: Inhouse
) -> None:
    desk.tenant("held")
    client = desk.asking("one", "held")
    file = client.post("/v1/files", data={"purpose": "user_data"}, files={"file": b"kept"}).json()
    where = ("--socket", str(gateway.var_dir / "run" / "admin.sock"))
    assert inhouse("tenants", "hold", "held", "--reason", "case 7", *where).code == 0
    refusal = inhouse("tenants", "erase", "held", *where)
    assert refusal.code == 1
    assert "under a legal hold" in refusal.err
    refused(desk.admin.post("/admin/v1/tenants/held/erase"), 409, "legal_hold")
    refused(desk.admin.delete("/admin/v1/tenants/held"), 409, "legal_hold")
    assert client.delete(f"/v1/files/{file['id']}").json()["deleted"] is True
    assert client.get(f"/v1/files/{file['id']}").status_code == 404
    assert (gateway.var_dir / "files" / file["id"]).read_bytes() == b"kept"

    shown = inhouse("tenants", "holds", "held", *where).out
    assert "case 7" in shown
    listed = inhouse("tenants", "list", *where).out
    assert any("held" in line and " UTC" in line for line in listed.splitlines())
    assert inhouse("tenants", "lift", "held", "--reason", "settled", *where).code == 0
    holds = desk.admin.get("/admin/v1/tenants/held/holds").json()["data"]
    assert [(one["reason"], one["lifted_reason"]) for one in holds] == [("case 7", "settled")]
    assert inhouse("tenants", "erase", "held", "--yes", *where).code == 0
    assert not (gateway.var_dir / "files" / file["id"]).exists()


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("default/hold", {}, 400, "invalid_value"),
        ("default/hold", {"reason": "  "}, 400, "invalid_value"),
        ("default/hold", {"reason": "a\0b"}, 400, "invalid_value"),
        ("default/hold", {"reason": "x" * 513}, 400, "invalid_value"),
        ("default/hold", {"reason": "x", "until": 1}, 400, "unknown_parameter"),
        ("default/lift", {"reason": "x"}, 409, "conflict"),
        ("nobody/hold", {"reason": "x"}, 404, "tenant_not_found"),
        ("nobody/erase", {}, 404, "tenant_not_found"),
        ("default/erase", {"tenant": "x"}, 400, "unknown_parameter"),
    ],
)
def test_orders_that_are_refused(
    desk: Desk, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = desk.admin.post(f"/admin/v1/tenants/{path}", json=body)
    assert refused(answer, status, code)
    assert desk.admin.get("/admin/v1/tenants/default").json()["held_since"] is None


def test_a_conversation_takes_one_turn_at_a_time(desk: Desk) -> None:
    desk.tenant("talks")
    client = desk.asking("one", "talks")
    conversation = client.post("/v1/conversations", json={}).json()["id"]
    path = f"/v1/conversations/{conversation}/items"
    fields = {"conversation": conversation}
    slow = respond(client, "fake:tokens=500 fake:pace=0.05", background=True, **fields).json()
    assert slow["status"] == "queued"
    message = refused(respond(client, **fields), 400, "conversation_locked")
    assert "once it has ended" in message
    item = {"type": "message", "role": "user", "content": "between"}
    refused(client.post(path, json={"items": [item]}), 400, "conversation_locked")
    assert client.get(path).json()["data"] == []
    assert client.post("/v1/responses/input_tokens", json={"model": "fake", "input": "x"} | fields)
    cancelled = client.post(f"/v1/responses/{slow['id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    for count in (2, 4):
        assert respond(client, **fields).status_code == 200
        assert len(client.get(path).json()["data"]) == count
    # What is refused before an engine sees it, and what its client leaves, let go of it too.
    refused(respond(client, model="none", **fields), 404, "model_not_found")
    with pytest.raises(httpx.ReadTimeout):
        client.post(
            "/v1/responses",
            json={"model": "fake", "input": "fake:tokens=500 fake:pace=0.05"} | fields,
            timeout=0.4,
        )
    for _ in range(100):
        answer = respond(client, **fields)
        if answer.status_code == 200:
            break
        refused(answer, 400, "conversation_locked")
        time.sleep(0.02)
    assert answer.status_code == 200
