"""The audit log of a server, from outside: what it says of what was done and answered."""

import hashlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.audit.files import segments_in
from serve.audit.search import Wanted, search
from serve.audit.verify import verify
from tests.conftest import Gateway, Inhouse, start_gateway
from tests.http.tenancy import CHAT, Desk, chat, started

JSON = dict[str, Any]

SITE = """\
site: t
root: .
model_files: models
var_dir: .
engine_defaults: {kind: fake}
audit: {checkpoint_every_s: 1, export_dir: share}
models: [{use: fake}, {use: large}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    (folder / "share").mkdir()
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Gateway]:
    gateway = started(folder, SITE)
    yield gateway
    assert gateway.stop() == 0
    verdict = verify(folder / "audit", [folder / "share"])
    assert (verdict.findings, verdict.covered) == ([], verdict.size)
    assert list(search(folder / "audit", Wanted()))[-1]["kind"] == "server.stopped"


@pytest.fixture(scope="module")
def desk(site: Gateway) -> Iterator[Desk]:
    with Desk(site) as one:
        one.tenant("kept", settings={"audit_text": True})
        yield one


def records(folder: Path, **wanted: Any) -> list[JSON]:
    return list(search(folder / "audit", Wanted(**wanted)))


def receipt(folder: Path, answer: httpx.Response) -> JSON:
    return receipt_of(folder, answer.headers["x-request-id"])


def receipt_of(folder: Path, request_id: str) -> JSON:
    """The receipt of a request; it is written when the answer has ended."""
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        if found := records(folder, kind="request", request_id=request_id):
            (one,) = found
            return one
        time.sleep(0.02)
    raise AssertionError(f"{request_id} has no receipt")


def test_a_receipt_holds_what_an_answer_comes_from(site: Gateway, folder: Path) -> None:
    asked = chat("one two fake:tokens=5", seed=7, temperature=0.5, stop=["never"])
    found = [
        receipt(folder, site.client.post(CHAT, json=asked | {"stream": stream}))
        for stream in (False, True)
    ]
    for one in found:
        assert (one["seed"], one["sampling"]) == (7, {"temperature": 0.5})
        assert (one["tenant"], one["key"], one["model"]) == ("default", "starter", "fake")
        assert (one["outcome"], one["finish"], one["tokens_out"]) == ("ok", "stop", 5)
        assert one["engine"].startswith("fake ")
        assert len(one["config"]) == len(one["prompt_sha256"]) == 64
        assert one["text"] is False
    whole, streamed = found
    assert whole["answer_sha256"] == streamed["answer_sha256"] is not None
    assert whole["prompt_sha256"] == streamed["prompt_sha256"]
    other = receipt(folder, site.client.post(CHAT, json=chat("one three fake:tokens=5")))
    assert other["prompt_sha256"] != whole["prompt_sha256"]
    longer = receipt(folder, site.client.post(CHAT, json=chat("one two fake:tokens=6")))
    assert longer["answer_sha256"] != whole["answer_sha256"]


def test_a_digest_can_be_made_anew_by_who_has_the_text(site: Gateway, folder: Path) -> None:
    asked = chat("grüezi fake:tokens=2")
    one = receipt(folder, site.client.post(CHAT, json=asked))
    prompt = {"messages": asked["messages"]}
    text = json.dumps(prompt, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert one["prompt_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_no_text_lies_in_the_log(site: Gateway, folder: Path) -> None:
    receipt(folder, site.client.post(CHAT, json=chat("unmistakable fake:tokens=2")))
    log = b"".join(one.path.read_bytes() for one in segments_in(folder / "audit"))
    assert b"unmistak" not in log


@pytest.mark.parametrize(
    ("text", "outcome"), [("fake:error@0", "engine_error"), ("fake:abort@3", "engine_error")]
)
def test_a_failure_has_a_receipt_too(text: str, outcome: str, site: Gateway, folder: Path) -> None:
    one = receipt(folder, site.client.post(CHAT, json=chat(text, stream=True)))
    assert one["outcome"] == outcome


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "hello"}),
        ("/v1/responses", {"input": "hello"}),
        ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}),
        ("/tokenize", {"prompt": "hello"}),
    ],
)
def test_every_family_has_receipts(path: str, body: JSON, site: Gateway, folder: Path) -> None:
    answer = site.client.post(path, json={"model": "fake"} | body)
    assert answer.status_code == 200, answer.text
    one = receipt(folder, answer)
    assert (one["outcome"], len(one["answer_sha256"])) == ("ok", 64)


def test_a_long_prompt_has_a_receipt(site: Gateway, folder: Path) -> None:
    asked = chat("fake:tokens=2 " + "x" * 8000, user="u", metadata={})
    asked["messages"] *= 10
    answer = site.client.post(CHAT, json=asked)
    if answer.status_code == 200:
        assert receipt(folder, answer)["outcome"] == "ok"
    else:
        assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_orders_are_there_with_who_gave_them_and_what_came_of_them(
    site: Gateway, folder: Path, desk: Desk
) -> None:
    text = desk.key("ci", scopes={"endpoints": ["chat"]})
    order = records(folder, kind="admin.order")[-1]
    ended = records(folder, kind="admin.ended")[-1]
    assert order["order"] == ended["order"]
    assert (order["via"], order["key"], order["method"]) == ("socket", "operator", "POST")
    assert order["body"]["name"] == "ci"
    assert (ended["status"], ended["name"]) == (200, "ci")
    assert ended["id"].startswith("key_")
    log = b"".join(one.path.read_bytes() for one in segments_in(folder / "audit"))
    assert text.encode() not in log
    admin = desk.asking("boss", scopes={"admin": True})
    assert admin.post("/admin/v1/keys/ci/revoke").status_code == 200
    order = records(folder, kind="admin.order")[-1]
    assert (order["via"], order["key"], order["tenant"]) == ("http", "boss", "default")
    refused = admin.post("/admin/v1/keys/nobody/revoke")
    assert records(folder, kind="admin.ended")[-1]["status"] == refused.status_code == 404
    before = len(records(folder, kind="admin"))
    assert desk.admin.get("/admin/v1/keys").status_code == 200
    assert len(records(folder, kind="admin")) == before


def test_models_that_come_and_go_are_there(site: Gateway, folder: Path, desk: Desk) -> None:
    for order in ("drain", "load"):
        answer = desk.admin.post(f"/admin/v1/models/large/{order}", json={"wait_s": 20})
        assert answer.status_code == 200, answer.text
    states = [one["state"] for one in records(folder, kind="model.state", model="large")]
    assert states[-3:] == ["stopped", "starting", "ready"]
    assert records(folder, kind="server.started")[0]["site"] == "t"


def test_an_apply_is_there_and_one_that_is_refused(site: Gateway, folder: Path, desk: Desk) -> None:
    new = folder / "site.yaml"
    new.write_text(SITE.replace("site: t", "site: u"))
    answer = desk.admin.post("/admin/v1/apply", json={"site_file": str(new)}, timeout=30)
    assert '"outcome":"applied"' in answer.text
    one = records(folder, kind="site.apply")[-1]
    assert one["outcome"] == "applied"
    assert one["digest"] != one["digest_before"]
    new.write_text(SITE.replace("{use: large}", "{use: nothing}"))
    answer = desk.admin.post("/admin/v1/apply", json={"site_file": str(new)}, timeout=30)
    assert answer.status_code == 400
    refused = records(folder, kind="site.apply")[-1]
    assert (refused["outcome"], refused["digest"]) == ("refused", one["digest"])
    assert "nothing" in refused["text"]
    new.write_text(SITE.replace("checkpoint_every_s: 1", "checkpoint_every_s: 2"))
    answer = desk.admin.post("/admin/v1/apply", json={"site_file": str(new)}, timeout=30)
    assert "audit.checkpoint_every_s" in answer.text
    new.write_text(SITE)


def replayed(inhouse: Inhouse, folder: Path, answer: httpx.Response) -> tuple[int, JSON]:
    words = ("--site", str(folder / "site.yaml"), "--json")
    done = inhouse("replay", answer.headers["x-request-id"], *words)
    assert done.out, done.err
    said: JSON = json.loads(done.out)
    assert said["exit_code"] == done.code
    return done.code, said


def kept(folder: Path, answer: httpx.Response) -> httpx.Response:
    """The answer, once its text is in the database."""
    asked = "SELECT 1 FROM request_texts WHERE request_id = ?"
    request_id = answer.headers["x-request-id"]
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        with closing(sqlite3.connect(f"file:{folder}/inhouse.db?mode=ro", uri=True)) as database:
            if database.execute(asked, (request_id,)).fetchone():
                return answer
        time.sleep(0.02)
    raise AssertionError(f"the text of {request_id} is not kept")


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_run_again_and_is_the_same(
    stream: bool, desk: Desk, folder: Path, inhouse: Inhouse
) -> None:
    client = desk.asking(f"again-{stream}", "kept")
    asked = chat("again fake:tokens=9", stream=stream, temperature=0)
    code, said = replayed(inhouse, folder, kept(folder, client.post(CHAT, json=asked)))
    (run,) = said["runs"]
    assert (code, run["identical"], run["why"]) == (0, True, [])
    again = receipt_of(folder, run["replayed_as"])
    assert (again["key"], again["tenant"]) == ("operator", "default")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "hello"}),
        ("/v1/responses", {"input": "hello", "temperature": 0}),
        ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}),
        ("/tokenize", {"prompt": "hello"}),
    ],
)
def test_every_family_is_run_again(
    path: str, body: JSON, desk: Desk, folder: Path, inhouse: Inhouse
) -> None:
    client = desk.asking(f"family{path.replace('/', '-')}", "kept")
    answer = kept(folder, client.post(path, json={"model": "fake"} | body))
    code, said = replayed(inhouse, folder, answer)
    assert (code, said["runs"][0]["identical"]) == (0, True)


def test_text_that_was_not_kept_is_not_run(
    site: Gateway, folder: Path, inhouse: Inhouse, desk: Desk
) -> None:
    answer = site.client.post(CHAT, json=chat())
    receipt(folder, answer)
    code, said = replayed(inhouse, folder, answer)
    assert (code, said["runs"]) == (5, [])
    assert "had not asked for that" in said["why"]
    done = inhouse("replay", "req_none", "--site", str(folder / "site.yaml"))
    assert done.code == 5
    assert "has no receipt" in done.out
    desk.tenant("gone", settings={"audit_text": True})
    answer = kept(folder, desk.asking("gone", "gone").post(CHAT, json=chat()))
    erased = desk.admin.post("/admin/v1/tenants/gone/erase", json={})
    assert erased.json()["erased"]["request_texts"] == 1
    code, said = replayed(inhouse, folder, answer)
    assert code == 5
    assert "erased" in said["why"]


def test_a_text_that_was_changed_is_found(desk: Desk, folder: Path, inhouse: Inhouse) -> None:
    asked = chat("the truth fake:tokens=3")
    answer = kept(folder, desk.asking("forged", "kept").post(CHAT, json=asked))
    request_id = answer.headers["x-request-id"]
    with closing(sqlite3.connect(folder / "inhouse.db", timeout=10)) as database:
        (asked,) = database.execute(
            "SELECT asked FROM request_texts WHERE request_id = ?", (request_id,)
        ).fetchone()
        forged = asked.replace(b"the truth", b"the false")
        assert forged != asked
        database.execute(
            "UPDATE request_texts SET asked = ? WHERE request_id = ?", (forged, request_id)
        )
        database.commit()
    code, said = replayed(inhouse, folder, answer)
    assert code == 4
    assert said["runs"][0]["why"] == [
        "the kept text is not what the log's digests say: it was changed"
    ]


def test_show_and_verify(desk: Desk, site: Gateway, folder: Path, inhouse: Inhouse) -> None:
    where = ("--site", str(folder / "site.yaml"))
    one = receipt(folder, site.client.post(CHAT, json=chat()))
    shown = inhouse("audit", "show", *where, "--request", one["request_id"])
    assert (shown.code, len(shown.out.splitlines())) == (0, 2)
    assert one["request_id"] in shown.out
    lines = inhouse(
        "audit", "show", *where, "--kind", "request", "--tenant", "default", "--last", "2",
        "--from", "2020-01-01", "--format", "json",
    ).out.splitlines()  # fmt: skip
    assert json.loads(lines[-1]) == one
    assert len(lines) == 2
    nothing = inhouse("audit", "show", *where, "--to", "2020-01-01")
    assert len(nothing.out.splitlines()) == 1
    key = folder / "audit" / "key.pub"
    done = inhouse("audit", "verify", *where, "--public-key", str(key), "--json")
    told = json.loads(done.out)
    assert (done.code, told["whole"], told["findings"]) == (0, True, [])
    assert told["checkpoints"] >= 1
    assert "taken from this log itself" in inhouse("audit", "verify", *where).out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("verify", "--log", "nowhere", "--checkpoints", "nowhere"), 3, "is no folder"),
        (("verify", "--log", "nowhere", "--public-key", "nowhere"), 2, "cannot be read"),
        (("show", "--log", "nowhere"), 3, "there is no audit log"),
        (("show", "--log", "nowhere", "--from", "noon"), 2, "2026-11-24"),
        (("verify", "--log", "nowhere"), 4, "there is no log"),
    ],
)
def test_commands_that_cannot_be_carried_out_say_why(
    words: tuple[str, ...], code: int, says: str, inhouse: Inhouse, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = inhouse("audit", *words)
    assert (done.code, says in done.out + done.err) == (code, True), done.out + done.err


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[], Gateway]]:
    """Starts a server on a folder that outlives it."""
    running: list[Gateway] = []

    def start() -> Gateway:
        if (tmp_path / "models").exists():
            site = str(tmp_path / "site.yaml")
            running.append(start_gateway(tmp_path, "serve", "--site", site, "--starter-key"))
        else:
            (tmp_path / "share").mkdir()
            running.append(started(tmp_path, SITE))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def test_a_killed_server_leaves_a_receipt_of_all_it_had_begun_and_commands_go_on_with_its_log(
    own: Callable[[], Gateway], inhouse: Inhouse, tmp_path: Path
) -> None:
    gateway = own()
    asked = chat("fake:tokens=500 fake:pace=0.01", stream=True)
    with gateway.client.stream("POST", CHAT, json=asked) as answer:
        request_id = answer.headers["x-request-id"]
        next(answer.iter_lines())
        os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait()
    assert records(tmp_path, kind="request", request_id=request_id) == []
    assert verify(tmp_path / "audit", [tmp_path / "share"]).findings == []
    assert own().stop() == 0
    (one,) = records(tmp_path, kind="request", request_id=request_id)
    assert one["outcome"] == "crashed"
    assert verify(tmp_path / "audit", [tmp_path / "share"]).findings == []
    where = ("--site", str(tmp_path / "site.yaml"))
    assert inhouse("keys", "add", "night", *where).code == 0
    assert inhouse("keys", "list", *where).code == 0
    order = records(tmp_path, kind="admin.order")[-1]
    assert (order["via"], order["body"]["name"]) == ("command", "night")
    assert verify(tmp_path / "audit").findings == []


def test_other_models_and_settings_are_told_by_a_replay(
    own: Callable[[], Gateway], inhouse: Inhouse, tmp_path: Path
) -> None:
    gateway = own()
    with Desk(gateway) as desk:
        desk.tenant("kept", settings={"audit_text": True})
        answers = [
            desk.asking(model, "kept").post(CHAT, json=chat("same fake:tokens=4", model=model))
            for model in ("fake", "large")
        ]
        for one in answers:
            kept(tmp_path, one)
    assert gateway.stop() == 0
    model = tmp_path / "models" / "fake.yaml"
    model.write_text(model.read_text().replace("4000", "3000"))
    (tmp_path / "site.yaml").write_text(SITE.replace(", {use: large}", ""))
    own()
    code, said = replayed(inhouse, tmp_path, answers[0])
    assert code == 0
    assert said["runs"][0]["why"][0].startswith("other config: ")
    code, said = replayed(inhouse, tmp_path, answers[1])
    assert (code, said["runs"][0]["ran"]) == (5, False)
    assert said["runs"][0]["why"] == ["the model large is not configured"]


def test_a_site_without_an_audit_log(tmp_path: Path) -> None:
    gateway = started(tmp_path, SITE.replace("audit: {", "audit: {enabled: false, "))
    assert gateway.client.post(CHAT, json=chat()).status_code == 200
    assert gateway.stop() == 0
    assert not (tmp_path / "audit").exists()


def test_a_start_that_is_refused_is_in_the_log(inhouse: Inhouse, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "share").mkdir()
    (tmp_path / "models" / "m.yaml").write_text(
        "name: m\nsource: {path: ../weights}\ncontext_tokens: 4000\n"
    )
    site = SITE.replace("{use: fake}, {use: large}", "{use: m}").replace("kind: fake", "kind: vllm")
    (tmp_path / "site.yaml").write_text(site)
    done = inhouse("serve", "--site", str(tmp_path / "site.yaml"))
    assert done.code == 2
    (one,) = records(tmp_path, kind="server.refused")
    assert one["error"] == done.err.strip()
