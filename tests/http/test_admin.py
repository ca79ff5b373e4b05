"""The operator's door over fake engines: orders under load lose nothing, looking wakes nothing."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Gateway, Inhouse, free_port, start_gateway

CHAT = "/v1/chat/completions"
SITE = """\
site: t
root: .
model_files: models
var_dir: .
engine_defaults: {kind: fake, hang_idle_s: 60, hang_loaded_s: 60}
limits: {ready_wait_s: 10}
models:
  - {use: fake, aliases: [default]}
  - {use: second, load: on_demand}
  - {use: napper, load: on_demand, devices: [0]}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of two models; tests leave the first ready and the second stopped."""
    root = tmp_path_factory.mktemp("admin")
    (root / "models").mkdir()
    for name in ("fake", "second", "napper"):
        (root / "models" / f"{name}.yaml").write_text(
            f"name: {name}\nsource: {{path: none}}\ncontext_tokens: 1000\n"
        )
    (root / "site.yaml").write_text(SITE)
    running = start_gateway(root, "serve", "--site", str(root / "site.yaml"), "--starter-key")
    yield running
    assert running.stop() == 0


@pytest.fixture
def admin(site: Gateway) -> Iterator[httpx.Client]:
    """A client of the private socket."""
    transport = httpx.HTTPTransport(uds=str(socket_of(site)))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=30) as client:
        yield client


def socket_of(gateway: Gateway) -> Path:
    return gateway.var_dir / "run" / "admin.sock"


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}]} | fields


def told(admin: httpx.Client, name: str) -> dict[str, Any]:
    answer = admin.get(f"/admin/v1/models/{name}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def order(admin: httpx.Client, name: str, kind: str) -> dict[str, Any]:
    answer = admin.post(f"/admin/v1/models/{name}/{kind}", json={"wait_s": 20})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(true: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


class Streams:
    """Clients that ask for one answer after the other, until told to stop."""

    def __init__(self, gateway: Gateway, count: int) -> None:
        self.answers: list[tuple[int, str]] = []
        self._stop = threading.Event()
        self._gateway = gateway
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for one in self._threads:
            one.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            answer = self._gateway.client.post(
                CHAT, json=body("fake:prefill=0.05 fake:tokens=5", stream=True)
            )
            self.answers.append((answer.status_code, answer.text))

    def stop(self) -> list[tuple[int, str]]:
        self._stop.set()
        for one in self._threads:
            one.join(30)
        return self.answers


def test_nothing_of_it_is_on_the_public_port(site: Gateway) -> None:
    for method, path in (
        ("GET", "/admin/v1/models"), ("POST", "/admin/v1/models/fake/drain"),
        ("POST", "/admin/v1/apply"), ("GET", "/admin/v1/release"),
    ):  # fmt: skip
        answer = site.client.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_url"


def test_the_socket_is_this_users_alone(site: Gateway) -> None:
    path = socket_of(site)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_looking_wakes_nothing(site: Gateway, admin: httpx.Client) -> None:
    for _ in range(3):
        assert admin.get("/admin/v1/models").status_code == 200
        assert site.client.get("/metrics").status_code == 200
        assert site.client.get("/health/ready").status_code == 200
        assert site.client.get("/v1/models").status_code == 200
    second = told(admin, "second")
    assert (second["state"], second["generation"], second["running"]) == ("stopped", 0, None)


def test_a_running_model_is_told_by_its_counters(site: Gateway, admin: httpx.Client) -> None:
    first = told(admin, "default")
    assert (first["running"], first["in_hand"], first["waiting"]) == (0, 0, 0)
    began_s = time.monotonic()
    for _ in range(3):
        site.client.post(CHAT, json=body("fake:tokens=100"))
    holder = threading.Thread(
        target=site.client.post, args=(CHAT,), kwargs={"json": body("fake:prefill=1")}
    )
    holder.start()
    until(lambda: told(admin, "fake")["running"] == 1)
    time.sleep(0.2)
    busy = told(admin, "fake")
    took_s = time.monotonic() - began_s
    assert (busy["in_hand"], busy["waiting"]) == (1, 0)
    assert busy["tokens_per_s"]["generated"] >= 300 / took_s * 0.5
    holder.join(10)
    assert told(admin, "fake")["in_hand"] == 0


def test_a_restart_under_load_loses_nothing(site: Gateway, admin: httpx.Client) -> None:
    before = told(admin, "fake")
    streams = Streams(site, 4)
    until(lambda: len(streams.answers) >= 4)
    after = order(admin, "fake", "restart")
    seen = len(streams.answers)
    until(lambda: len(streams.answers) >= seen + 4)
    answers = streams.stop()
    assert all(status == 200 and text.endswith("data: [DONE]\n\n") for status, text in answers)
    assert after["state"] == "ready"
    assert after["pid"] != before["pid"]
    assert after["generation"] == before["generation"] + 1
    assert after["restarts"] == before["restarts"]


def test_a_drain_under_load_loses_nothing(site: Gateway, admin: httpx.Client) -> None:
    texts: list[str] = []

    def read() -> None:
        long = body("fake:prefill=1 fake:tokens=3", stream=True)
        texts.append(site.client.post(CHAT, json=long).text)

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: told(admin, "fake")["running"] == 1)
    begun = admin.post("/admin/v1/models/fake/drain")
    assert begun.status_code == 202
    assert begun.json()["order"]["kind"] == "drain"
    refused = site.client.post(CHAT, json=body("hi"))
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "model_not_ready"
    assert int(refused.headers["retry-after"]) >= 1
    assert admin.post("/admin/v1/models/fake/load").status_code == 409
    assert order(admin, "fake", "drain")["state"] == "stopped"
    reader.join(20)
    assert texts[0].endswith("data: [DONE]\n\n")
    assert order(admin, "fake", "drain")["state"] == "stopped"
    assert site.client.post(CHAT, json=body("hi")).status_code == 503
    assert order(admin, "fake", "load")["state"] == "ready"
    assert site.client.post(CHAT, json=body("hi")).status_code == 200


def test_a_model_on_demand_is_loaded_and_drained(site: Gateway, admin: httpx.Client) -> None:
    assert order(admin, "second", "load")["state"] == "ready"
    loaded = told(admin, "second")
    assert loaded["pid"] in site.engine_pids()
    assert order(admin, "second", "load")["pid"] == loaded["pid"]
    assert order(admin, "second", "drain")["pid"] is None
    # Until an operator loads it, nobody's request does.
    assert site.client.post(CHAT, json=body("hi", model="second")).status_code == 503


def test_a_sleeping_model_is_woken_by_a_request_and_by_nothing_else(
    site: Gateway, admin: httpx.Client
) -> None:
    asked = {"model": "napper", "messages": [{"role": "user", "content": "fake:tokens=2"}]}
    assert site.client.post(CHAT, json=asked).status_code == 200
    asleep = order(admin, "napper", "sleep")
    assert asleep["state"] == "sleeping"
    assert 0 < asleep["memory_bytes"]["gpu0"] < told_need(admin)
    for _ in range(3):
        site.client.get("/metrics")
        site.client.get("/health/ready")
        looked = told(admin, "napper")
        assert (looked["state"], looked["pid"]) == ("sleeping", asleep["pid"])
        assert looked["running"] is None
    assert order(admin, "napper", "sleep")["state"] == "sleeping"
    assert site.client.post(CHAT, json=asked).status_code == 200
    awake = told(admin, "napper")
    assert (awake["state"], awake["pid"]) == ("ready", asleep["pid"])
    assert awake["last_swap_s"] > 0
    assert order(admin, "napper", "drain")["state"] == "stopped"


def told_need(admin: httpx.Client) -> int:
    """What there is of the device that the napper sleeps on."""
    return int(admin.get("/admin/v1/models").json()["memory"]["capacity_bytes"]["gpu0"])


def test_status_is_a_table_or_json(site: Gateway, inhouse: Inhouse) -> None:
    shown = inhouse("status", "--socket", str(socket_of(site)))
    assert shown.code == 0, shown.err
    head, first, second, *_ = shown.out.splitlines()
    assert head.split()[:2] == ["model", "state"]
    assert first.split()[:2] == ["fake", "ready"]
    assert second.split()[:2] == ["second", "stopped"]
    by_site = inhouse("status", "--json", "--site", str(site.var_dir / "site.yaml"))
    assert [one["id"] for one in json.loads(by_site.out)["data"]] == ["fake", "second", "napper"]


def test_orders_from_the_command_line(site: Gateway, inhouse: Inhouse) -> None:
    socket = ("--socket", str(socket_of(site)))
    done = inhouse("restart", "default", *socket)
    assert done.code == 0, done.err
    assert done.out.startswith("fake: ready (restart took ")
    for words in (("load", "fak"), ("drain", "fak")):
        refused = inhouse(*words, *socket)
        assert refused.code == 1
        assert refused.err.startswith("The model 'fak' does not exist here. Did you mean 'fake'?")
        assert len(refused.err.splitlines()) == 1


def test_no_server_is_one_line(tmp_path: Path, inhouse: Inhouse) -> None:
    socket = str(tmp_path / "admin.sock")
    for words in (("status",), ("load", "m"), ("restart", "m"), ("apply", "--site", "none.yaml"),
                  ("plan", "--site", "none.yaml")):  # fmt: skip
        done = inhouse(*words, "--socket", socket)
        assert done.code == 1
        assert done.err == (
            f"{socket}: no server runs there; start one with `inhouse serve --site FILE`\n"
        )


def test_a_site_is_planned_applied_and_taken_back(
    site: Gateway, admin: httpx.Client, inhouse: Inhouse
) -> None:
    before, after = site.var_dir / "site.yaml", site.var_dir / "after.yaml"
    after.write_text(SITE.replace("[default]", "[default, quick]"))
    planned = inhouse("plan", "--site", str(after))
    assert planned.code == 0, planned.err
    assert "aliases: default → default, quick" in planned.out
    assert told(admin, "fake")["aliases"] == ["default"]
    done = inhouse("apply", "--site", str(after))
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1].startswith("applied: ")
    assert told(admin, "quick")["aliases"] == ["default", "quick"]
    assert site.client.post(CHAT, json=body("hi", model="quick")).status_code == 200
    release = admin.get("/admin/v1/release").json()
    assert release["last_apply"]["outcome"] == "applied"
    assert release["last_good"]["digest"] == release["digest"]
    assert inhouse("apply", "--site", str(before)).code == 0
    assert told(admin, "fake")["aliases"] == ["default"]


def test_a_site_that_cannot_be_is_refused_and_nothing_changes(
    site: Gateway, admin: httpx.Client, inhouse: Inhouse
) -> None:
    pid = told(admin, "fake")["pid"]
    wrong = site.var_dir / "wrong.yaml"
    wrong.write_text(SITE.replace("limits", "limitz"))
    unread = inhouse("apply", "--site", str(wrong))
    assert (unread.code, unread.out) == (2, "")
    assert "limitz" in unread.err
    told_so = inhouse("apply", "--site", str(wrong), "--socket", str(socket_of(site)))
    assert told_so.code == 1
    assert told_so.err.endswith("; the site from before still serves\n")
    assert "limitz" in told_so.err
    wrong.write_text(SITE.replace("[default]", "[default], cpu_kv_gib: 4000"))
    refused = inhouse("apply", "--site", str(wrong))
    assert refused.code == 1
    assert "4000.0 GiB of host memory" in refused.err
    assert refused.err.endswith("; the site from before still serves\n")
    assert len(refused.err.splitlines()) == 1
    assert told(admin, "fake")["pid"] == pid


def test_a_server_without_a_site_file_has_none_to_change(
    gateway: Gateway, inhouse: Inhouse, tmp_path: Path
) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    done = inhouse(
        "apply", "--site", str(tmp_path / "site.yaml"), "--socket", str(socket_of(gateway))
    )
    assert done.code == 1
    assert "runs without a site file" in done.err


def test_a_second_server_of_one_var_dir_is_refused(site: Gateway) -> None:
    words = ("serve", "--site", str(site.var_dir / "site.yaml"), "--starter-key")
    done = subprocess.run(
        [sys.executable, "-m", "serve.cli", *words, "--port", str(free_port())],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "another server listens" in done.stderr.strip().splitlines()[-1]
    assert socket_of(site).exists()
