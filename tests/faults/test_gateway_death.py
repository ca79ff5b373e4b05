"""Several gateways on one PostgreSQL: what a dead one was working on is taken over, by one."""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from serve.state.gateways import LEASE_S
from tests import postgres as pg
from tests.conftest import Gateway, start_site

pytestmark = pytest.mark.long

SITE = """\
site: t
root: .
model_files: models
var_dir: .
auth: {{mode: none}}
engine_defaults: {{kind: fake}}
state: {{database: "{url}"}}
models: [{{use: fake}}]
"""
MODEL = {"fake": "name: fake\nsource: {path: none}\ncontext_tokens: 4000\n"}


@pytest.fixture
def gateways(postgres: str, tmp_path: Path) -> Iterator[list[Gateway]]:
    url = pg.create(postgres, f"death_{uuid.uuid4().hex}")
    with ExitStack() as stack:
        made = []
        for name in "abc":
            (tmp_path / name).mkdir()
            one = start_site(tmp_path / name, SITE.format(url=url), MODEL)
            stack.callback(one.stop)
            made.append(one)
        yield made


def create(gateway: Gateway, text: str, **fields: Any) -> str:
    body = {"model": "fake", "input": text, "background": True} | fields
    answer = gateway.client.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def until(gateway: Gateway, response_id: str, *statuses: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + 3 * LEASE_S
    while True:
        body: dict[str, Any] = gateway.client.get(f"/v1/responses/{response_id}").json()
        if body["status"] in statuses:
            return body
        assert time.monotonic() < deadline_s, body["status"]
        time.sleep(0.05)


def output_of(gateway: Gateway, response_id: str) -> list[str]:
    """The kinds of its events so far, wherever it runs."""
    path = f"/v1/responses/{response_id}"
    text = gateway.client.get(path, params={"stream": "true"}).text
    return [line[7:] for line in text.splitlines() if line.startswith("event: ")]


def test_the_others_take_over_from_one_that_is_killed(gateways: list[Gateway]) -> None:
    a, b, c = gateways
    talk = b.client.post("/v1/conversations", json={}).json()["id"]
    fresh = create(a, "fake:tokens=2 fake:prefill=3", conversation=talk)
    begun = create(a, "fake:tokens=900 fake:pace=0.05")
    lives = create(b, "fake:tokens=700 fake:pace=0.05")
    for gateway, name in ((a, begun), (b, lives)):
        until(gateway, name, "in_progress")
        while "response.output_text.delta" not in seen(gateway, name):
            time.sleep(0.05)
    a.process.kill()
    a.process.wait()
    a.client.close()
    locked = b.client.post("/v1/responses", json={"model": "fake", "input": "x",
                                                  "conversation": talk})  # fmt: skip
    assert locked.json()["error"]["code"] == "conversation_locked"
    assert until(c, fresh, "completed", "failed")["status"] == "completed"
    assert until(c, begun, "completed", "failed")["status"] == "failed"
    items = c.client.get(f"/v1/conversations/{talk}/items").json()["data"]
    assert len(items) == 2, "its turn was taken once"
    events = output_of(c, fresh)
    assert events.count("response.completed") == 1
    assert events.count("response.created") == 1
    assert b.client.get(f"/v1/responses/{lives}").json()["status"] in ("in_progress", "completed")
    after = c.client.post("/v1/responses", json={"model": "fake", "input": "fake:tokens=2",
                                                 "conversation": talk})  # fmt: skip
    assert after.status_code == 200


def seen(gateway: Gateway, response_id: str) -> set[str]:
    """The kinds of events up to the first output."""
    path, found = f"/v1/responses/{response_id}", set()
    with gateway.client.stream("GET", path, params={"stream": "true"}) as following:
        for line in following.iter_lines():
            if line.startswith("event: "):
                found.add(line[7:])
                if line == "event: response.output_text.delta":
                    break
    return found


def test_deleting_at_another_gateway_ends_it_where_it_runs(gateways: list[Gateway]) -> None:
    a, b, _ = gateways
    running = create(a, "fake:tokens=2000 fake:pace=0.02")
    assert "response.output_text.delta" in seen(a, running)
    assert b.client.delete(f"/v1/responses/{running}").json()["deleted"] is True
    deadline_s = time.monotonic() + 20
    while "a response was deleted while it ran" not in (a.var_dir / "stderr.txt").read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    for gateway in (a, b):
        assert gateway.client.get(f"/v1/responses/{running}").status_code == 404
