"""Who may ask what: every route, every kind of key, and keys that end while they are answered."""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import postgres as pg
from tests.conftest import Gateway, Inhouse
from tests.http.tenancy import CHAT, SITE, Desk, chat, refused, started

PUBLIC = {"/health/live", "/health/ready", "/metrics"}
"""For probes and scrapers; everything else wants a key."""
UNSCOPED = {"/openapi.json", "/v1/models", "/v1/models/{name}"}
FAMILIES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/conversations": "conversations",
    "/v1/messages": "messages",
    "/v1/embeddings": "embeddings",
    "/v1/score": "score",
    "/v1/rerank": "rerank",
    "/tokenize": "tokens",
    "/detokenize": "tokens",
    "/v1/files": "files",
    "/v1/uploads": "files",
    "/v1/batches": "batches",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = started(tmp_path_factory.mktemp("keys"))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def desk(site: Gateway) -> Iterator[Desk]:
    with Desk(site) as one:
        yield one


@pytest.fixture(scope="module")
def routes(site: Gateway) -> list[tuple[str, str]]:
    """All of them: a test holds the document against the application."""
    paths = site.client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def ask(client: httpx.Client, method: str, path: str) -> httpx.Response:
    return client.request(method, re.sub(r"\{\w+\}", "x", path))


def refused_anywhere(answer: httpx.Response, path: str, status: int, code: str) -> None:
    """In OpenAI's shape, or in Anthropic's where that is spoken."""
    if path.startswith("/v1/messages"):
        assert answer.status_code == status
        assert answer.json()["type"] == "error"
    else:
        refused(answer, status, code)


def test_no_route_answers_without_a_good_key(
    site: Gateway, desk: Desk, routes: list[tuple[str, str]]
) -> None:
    desk.asking("ended")
    gone = desk.asking("gone")
    desk.revoke("gone")
    short = desk.asking("short", expires_in_s=0.001)
    stranger = desk.enter_context(httpx.Client(base_url=site.url))
    unknown = desk.client("sk-" + "x" * 43)
    assert len(routes) > 40
    for method, path in routes:
        if path in PUBLIC:
            assert ask(stranger, method, path).is_success
            continue
        for client, code in (
            (stranger, "missing_api_key"), (unknown, "invalid_api_key"),
            (gone, "key_revoked"), (short, "key_expired"),
        ):  # fmt: skip
            refused_anywhere(ask(client, method, path), path, 401, code)


def test_no_route_answers_a_key_that_is_for_others(
    desk: Desk, routes: list[tuple[str, str]]
) -> None:
    """Each family's key is refused at all other routes, and let in at its own."""
    families = sorted(set(FAMILIES.values()))
    clients = {one: desk.asking(f"for-{one}", scopes={"endpoints": [one]}) for one in families}
    for method, path in routes:
        if path in PUBLIC | UNSCOPED:
            continue
        of = max((one for one in FAMILIES if path.startswith(one)), key=len)
        for family, client in clients.items():
            answer = ask(client, method, path)
            if family == FAMILIES[of]:
                assert answer.status_code not in (401, 403), f"{method} {path}"
            elif family in ("chat", "files"):
                refused_anywhere(answer, path, 403, "permission_denied")
    assert clients["chat"].get("/v1/models").is_success


def test_the_socket_of_responses_wants_a_key_too(site: Gateway, desk: Desk) -> None:
    upgrade = {
        "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    assert httpx.get(f"{site.url}/v1/responses", headers=upgrade).status_code == 401
    key = desk.key("no-socket", scopes={"endpoints": ["chat"]})
    headers = upgrade | {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{site.url}/v1/responses", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "key", ["' OR '1'='1", '"; DROP TABLE api_keys; --', "sk-%", "..", "k" * 10_240, "sk-\xff"]
)
def test_keys_that_are_none(site: Gateway, desk: Desk, key: str) -> None:
    with httpx.Client(base_url=site.url) as client:
        for headers in (
            {"x-api-key": key.encode("latin-1")},
            {"authorization": f"Bearer {key}".encode("latin-1")},
        ):
            answer = client.get("/v1/models", headers=headers)
            refused(answer, 401, "invalid_api_key")
            assert len(answer.content) < 300
            refused(client.post(CHAT, json=chat(), headers=headers), 401, "invalid_api_key")
    assert desk.admin.get("/admin/v1/keys").is_success


def test_a_model_that_is_not_in_scope_does_not_exist(desk: Desk) -> None:
    small = desk.asking("small", scopes={"models": ["fake"]})
    assert [one["id"] for one in small.get("/v1/models").json()["data"]] == ["fake", "default"]
    assert small.post(CHAT, json=chat(model="default")).is_success, "another name of it"
    for name in ("large", "auto", "none"):
        for answer in (
            small.post(CHAT, json=chat(model=name)),
            small.post("/v1/responses", json={"model": name, "input": "hi"}),
            small.post("/v1/completions", json={"model": name, "prompt": "hi"}),
            small.post("/tokenize", json={"model": name, "prompt": "hi"}),
            small.get(f"/v1/models/{name}"),
        ):
            said = refused(answer, 404, "model_not_found")
            assert "The key is for: fake, default." in said
            assert "'large'" not in said.replace(f"'{name}'", "")
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert small.post(CHAT, json=chat(model="auto", tools=tools)).is_success, "it picks fake"


def test_who_may_ask_a_route_may_ask_what_it_picks(desk: Desk) -> None:
    routed = desk.asking("routed", scopes={"models": ["au*"]})
    assert [one["id"] for one in routed.get("/v1/models").json()["data"]] == ["auto"]
    assert routed.post(CHAT, json=chat(model="auto")).json()["model"] == "large"
    refused(routed.post(CHAT, json=chat(model="large")), 404, "model_not_found")


def test_a_batch_may_ask_only_what_its_key_may(desk: Desk) -> None:
    client = desk.asking("batcher", scopes={"endpoints": ["files", "batches", "completions"]})
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": chat()}
    file = {"file": ("in.jsonl", json.dumps(line).encode())}
    made = client.post("/v1/files", files=file, data={"purpose": "batch"}).json()
    body = {"input_file_id": made["id"], "endpoint": CHAT, "completion_window": "24h"}
    assert "endpoint chat" in refused(
        client.post("/v1/batches", json=body), 403, "permission_denied"
    )


def timed(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[list[str], float]:
    """The lines of a stream, and when it ended."""
    with client.stream("POST", path, json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    return lines, time.monotonic()


SLOW = "fake:tokens=200 fake:pace=0.05"
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, chat(SLOW, stream=True)),
    "completions": ("/v1/completions", {"model": "fake", "prompt": SLOW, "stream": True}),
    "responses": ("/v1/responses", {"model": "fake", "input": SLOW, "stream": True}),
    "background": (
        "/v1/responses", {"model": "fake", "input": SLOW, "stream": True, "background": True}
    ),
    "messages": ("/v1/messages", chat(SLOW, stream=True, max_tokens=500)),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_a_revoked_key_ends_with_an_error(desk: Desk, name: str) -> None:
    path, body = STREAMS[name]
    client, other = desk.asking(f"stream-{name}"), desk.asking(f"beside-{name}")
    ended: list[tuple[list[str], float]] = []
    reading = threading.Thread(target=lambda: ended.append(timed(client, path, body)))
    beside = threading.Thread(
        target=lambda: ended.append(timed(other, CHAT, chat(SLOW[:15], stream=True)))
    )
    reading.start()
    time.sleep(0.4)
    beside.start()
    desk.revoke(f"stream-{name}")
    revoked_s = time.monotonic()
    reading.join(20)
    beside.join(20)
    (stream,) = [one for one in ended if "[DONE]" not in one[0][-1]]
    lines, ended_s = stream
    assert ended_s - revoked_s < 1
    assert len(lines) > 3, "it had begun"
    assert "has been revoked" in lines[-1]
    assert len(ended) == 2, "the other one came to its end"
    refused_anywhere(client.post(path, json=body), path, 401, "key_revoked")


def test_a_whole_answer_of_a_revoked_key_is_an_error(desk: Desk) -> None:
    client = desk.asking("whole")
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(client.post(CHAT, json=chat(SLOW))))
    asking.start()
    time.sleep(0.3)
    desk.revoke("whole")
    asking.join(5)
    assert len(answers) == 1
    refused(answers[0], 401, "key_revoked")


def test_a_rotated_key_and_the_new_one_are_both_good_for_a_while(desk: Desk) -> None:
    old = desk.asking("turning", scopes={"endpoints": ["chat"]})
    path = "/admin/v1/keys/turning/rotate"
    made = desk.admin.post(path, json={"overlap_s": 0.5}).json()
    new = desk.client(made["key"])
    assert (made["name"], made["scopes"]["endpoints"]) == ("turning", ["chat"])
    assert old.post(CHAT, json=chat()).is_success
    assert new.post(CHAT, json=chat()).is_success
    time.sleep(0.6)
    refused(old.post(CHAT, json=chat()), 401, "key_expired")
    assert new.post(CHAT, json=chat()).is_success
    refused(new.get("/v1/files"), 403, "permission_denied")


def test_the_administration_is_for_keys_with_that_scope(site: Gateway, desk: Desk) -> None:
    paths = ("/admin/v1/keys", "/admin/v1/tenants")
    admin = desk.asking("boss", scopes={"admin": True, "endpoints": ["chat"]})
    for path in paths:
        refused(site.client.get(path), 404, "unknown_url")
        refused(httpx.get(site.url + path), 404, "unknown_url")
        assert admin.get(path).json()["object"] == "list"
    made = admin.post("/admin/v1/keys", json={"name": "made-by-boss"}).json()
    assert desk.client(made["key"]).get("/v1/models").is_success
    for path in ("/admin/v1/models", "/admin/v1/release", "/admin/v1/adapters"):
        refused(admin.get(path), 404, "unknown_url")
    desk.revoke("boss")
    refused(admin.get("/admin/v1/keys"), 404, "unknown_url")


BAD_BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("keys", {"name": "a b"}, "name"),
    ("keys", {"name": "x", "scopes": {"endpoints": ["chats"]}}, "scopes.endpoints.0"),
    ("keys", {"name": "x", "expires_at": -1}, "expires_at"),
    ("keys", {"name": "x", "expires_at": 1e300}, "expires_at"),
    ("keys", {"name": "x", "expires_at": 1}, "expires_at"),
    ("keys", {"name": "x", "expires_at": 2e9, "expires_in_s": 1}, "expires_at"),
    ("keys", {"name": "x", "limits": {}}, "limits"),
    ("tenants", {"name": "x" * 65}, "name"),
    ("tenants", {"name": "x", "limits": {"requests_per_day": -1}}, "limits.requests_per_day"),
    ("tenants", {"name": "x", "limits": {"weight": 0}}, "limits.weight"),
    ("tenants", {"name": "x", "settings": {"cache_group": 7}}, "settings.cache_group"),
]


@pytest.mark.parametrize(("what", "body", "param"), BAD_BODIES)
def test_what_is_wrong_is_named(desk: Desk, what: str, body: dict[str, Any], param: str) -> None:
    answer = desk.admin.post(f"/admin/v1/{what}", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    there = desk.admin.get(f"/admin/v1/{what}").json()["data"]
    assert body["name"] not in [one["name"] for one in there]


def test_the_log_names_the_tenant_and_never_the_key(site: Gateway, desk: Desk) -> None:
    desk.tenant("logged")
    key = desk.key("log", "logged")
    assert desk.client(key).post(CHAT, json=chat()).is_success
    text = (site.var_dir / "stderr.txt").read_text()
    assert '"tenant":"logged","key":"log"' in text
    assert key not in text


def test_what_a_command_does_to_the_database_counts_at_every_gateway(
    postgres: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, inhouse: Inhouse
) -> None:
    """Two gateways, and a site file whose own server does not run: the command is on its own."""
    url = pg.create(postgres, "gateways")
    text = SITE.replace("var_dir: .", f"var_dir: .\nstate: {{database: '{url}'}}")
    gateways = [started(tmp_path_factory.mktemp("gateway"), text) for _ in range(2)]
    (tmp_path / "models").symlink_to(gateways[0].var_dir / "models")
    (tmp_path / "site.yaml").write_text(text)
    at = ("--tenant", "lab", "--site", str(tmp_path / "site.yaml"))
    desk, other = (Desk(one) for one in gateways)
    try:
        assert inhouse("tenants", "add", "lab", *at[2:]).code == 0
        key = inhouse("keys", "add", "ci", "--expires", "1h", *at).out.strip()
        clients = [desk.client(key), other.client(key)]
        within(1, lambda: all(one.get("/v1/models").is_success for one in clients))
        assert inhouse("keys", "revoke", "ci", *at).code == 0
        within(1, lambda: all(one.get("/v1/models").status_code == 401 for one in clients))
        key = desk.key("direct", "lab")
        clients = [desk.client(key), other.client(key)]
        assert clients[0].get("/v1/models").is_success, "its own change counts at once"
        within(1, lambda: clients[1].get("/v1/models").is_success)
        other.revoke("direct", "lab")
        refused(clients[1].get("/v1/models"), 401, "key_revoked")
        within(1, lambda: clients[0].get("/v1/models").status_code == 401)
    finally:
        desk.close()
        other.close()
        assert [one.stop() for one in gateways] == [0, 0]


def within(seconds: float, holds: Any) -> None:
    deadline_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {seconds} s"
        time.sleep(0.02)


def test_from_the_command_line(site: Gateway, desk: Desk, inhouse: Inhouse) -> None:
    at = ("--site", str(site.var_dir / "site.yaml"))
    lab = ("--tenant", "shell")
    assert inhouse("tenants", "add", "shell", "--limits", "{choices: 2}", *at).code == 0
    assert inhouse("tenants", "set", "shell", "--cache-group", "g", *at).code == 0
    shown = json.loads(inhouse("tenants", "show", "shell", *at).out)
    assert (shown["limits"], shown["settings"]) == ({"choices": 2}, {"cache_group": "g"})
    assert inhouse("tenants", "set", "shell", "--no-cache-group", *at).code == 0
    assert "choices" in inhouse("tenants", "list", *at).out
    key = inhouse("keys", "add", "ci", "--models", "fake,l*", "--endpoints", "chat", *lab, *at)
    assert desk.client(key.out.strip()).post(CHAT, json=chat()).is_success
    turned = inhouse("keys", "rotate", "ci", "--overlap", "1h", *lab, *at)
    assert turned.out.strip() != key.out.strip()
    assert "good for 1h more" in turned.err
    listed = inhouse("keys", "list", *lab, *at).out.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [["ci", "shell", "good"]] * 2
    for words, code, said in (
        (("keys", "add", "ci", *lab), 1, "has a key named ci already"),
        (("keys", "add", "x", "--endpoints", "chats", *lab), 1, "endpoints"),
        (("keys", "add", "x", "--expires", "soon", *lab), 2, "no length of time"),
        (("keys", "add", "x", "--expires", "2020-01-01", *lab), 1, "is over"),
        (("keys", "revoke", "x", *lab), 1, "no key x of the tenant shell"),
        (("tenants", "add", "shell"), 1, "is a tenant shell already"),
        (("tenants", "add", "y", "--limits", "{weight: -1}"), 1, "limits.weight"),
        (("tenants", "set", "shell"), 2, "say what to change"),
        (("tenants", "remove", "shell"), 2, "--yes"),
    ):
        done = inhouse(*words, *at)
        assert (done.code, said in done.err) == (code, True), done.err
    assert inhouse("keys", "revoke", "ci", *lab, *at).out.count("revoked") == 2
    assert inhouse("keys", "remove", "ci", *lab, *at).out.count("removed") == 2
    assert inhouse("tenants", "remove", "shell", "--yes", *at).code == 0
    assert "was a tenant shell" in inhouse("tenants", "add", "shell", *at).err
