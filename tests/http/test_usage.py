"""A gateway's ledger from outside: one record for each request, and none lost to kill -9."""

import asyncio
import csv
import io
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

from tests.conftest import Gateway, Inhouse, start_gateway

CHAT = "/v1/chat/completions"
WHOLE_A_LIFE = 40
"""Answers that clients have had whole when a gateway is killed."""
Record = dict[str, Any]


def body(text: str, **fields: Any) -> Record:
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **fields}


def records(var_dir: Path) -> dict[str, Record]:
    with closing(sqlite3.connect(f"file:{var_dir}/inhouse.db?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        rows = database.execute("SELECT * FROM usage_records").fetchall()
    # A request that is cut to fit the context runs more than once; each run is there once.
    assert len({(row["request_id"], row["run"]) for row in rows}) == len(rows)
    return {row["request_id"]: dict(row) for row in rows}


def record_of(gateway: Gateway, request_id: str) -> Record:
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        if request_id in (found := records(gateway.var_dir)):
            return found[request_id]
        time.sleep(0.05)
    raise AssertionError(f"{request_id} is not in the ledger")


def tokens(record: Record) -> tuple[int, int, int, int]:
    return record["prompt"], record["cached"], record["completion"], record["reasoning"]


def test_whole_and_streamed_answers_are_recorded_alike(gateway: Gateway) -> None:
    ids = []
    for stream in (False, True):
        asked = body("one two three four fake:tokens=7", stream=stream)
        answer = gateway.client.post(CHAT, json=asked)
        assert answer.status_code == 200
        ids.append(answer.headers["x-request-id"])
    whole, streamed = (record_of(gateway, one) for one in ids)
    for record in (whole, streamed):
        assert (record["outcome"], record["finish"], record["model"]) == ("ok", "stop", "fake")
        assert (record["tenant"], record["key"]) == ("default", "starter")
        assert record["fingerprint"].startswith("fp_")
        assert record["completion"] == 7
        assert 0 <= record["queue_s"] <= record["duration_s"]
    assert tokens(whole)[2:] == tokens(streamed)[2:]
    assert whole["ttft_s"] is None
    assert 0 < streamed["ttft_s"] <= streamed["duration_s"]


@pytest.mark.parametrize(
    ("text", "outcome", "completion"),
    [("fake:error@0", "engine_error", 0), ("fake:abort@3", "engine_error", 3)],
)
def test_a_failure_is_recorded_with_what_had_been_made(
    text: str, outcome: str, completion: int, gateway: Gateway
) -> None:
    answer = gateway.client.post(CHAT, json=body(text, stream=True))
    record = record_of(gateway, answer.headers["x-request-id"])
    assert (record["outcome"], record["completion"]) == (outcome, completion)


def test_a_client_that_leaves_is_recorded_with_what_it_was_sent(gateway: Gateway) -> None:
    asked = body("hello fake:tokens=500 fake:pace=0.01", stream=True)
    with gateway.client.stream("POST", CHAT, json=asked) as answer:
        request_id = answer.headers["x-request-id"]
        read = 0
        for line in answer.iter_lines():
            read += '"content":"w' in line
            if read == 5:
                break
    record = record_of(gateway, request_id)
    assert record["outcome"] == "cancelled"
    assert record["prompt"] > 0
    assert 5 <= record["completion"] < 500


def test_every_family_of_endpoints_is_recorded(gateway: Gateway) -> None:
    asked = [
        ("/v1/responses", {"model": "fake", "input": "hello"}, "responses"),
        ("/v1/completions", {"model": "fake", "prompt": "hello"}, "completions"),
        (
            "/v1/messages",
            {"model": "fake", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
            "messages",
        ),
    ]
    for path, request, endpoint in asked:
        answer = gateway.client.post(path, json=request)
        assert answer.status_code == 200, answer.text
        name = "request-id" if path == "/v1/messages" else "x-request-id"
        record = record_of(gateway, answer.headers[name])
        assert (record["endpoint"], record["outcome"]) == (endpoint, "ok")
        assert record["completion"] > 0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[], Gateway]]:
    """Starts a gateway on a folder that outlives it."""
    started: list[Gateway] = []

    def start() -> Gateway:
        words = ("dev", "--ttft-ms", "5", "--tpot-ms", "3", "--var-dir", str(tmp_path))
        started.append(start_gateway(tmp_path, *words))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.mark.parametrize(
    "kills", [1, pytest.param(25, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_kill_9_of_a_gateway_loses_and_adds_no_token(
    kills: int, own: Callable[[], Gateway]
) -> None:
    whole: dict[str, int] = {}
    cut: dict[str, int] = {}
    for _ in range(kills):
        gateway = own()
        asyncio.run(_load_until_killed(gateway, whole, cut))
    assert own().stop() == 0
    found = records(gateway.var_dir)
    assert len(whole) >= WHOLE_A_LIFE * kills
    for request_id, completion in whole.items():
        assert found[request_id]["completion"] == completion
    for request_id, seen in cut.items():
        record = found[request_id]
        assert record["outcome"] in ("crashed", "ok")
        assert record["completion"] <= 64
        # Half a second and what lies between, at 3 ms a token, is all that may be missing.
        assert record["completion"] >= seen - 200
    assert sum(one["outcome"] == "crashed" for one in found.values()) >= kills
    others = set(found) - set(whole) - set(cut)
    assert all(found[one]["completion"] <= 64 for one in others)


async def _load_until_killed(gateway: Gateway, whole: dict[str, int], cut: dict[str, int]) -> None:
    enough, before = asyncio.Event(), len(whole)

    async def client(http: httpx.AsyncClient, number: int) -> None:
        size = 8 + (number * 7) % 57
        asked = body(f"client {number} fake:tokens={size}", stream=True)
        while True:
            request_id, seen = "", 0
            try:
                async with http.stream("POST", CHAT, json=asked) as answer:
                    request_id = answer.headers["x-request-id"]
                    async for line in answer.aiter_lines():
                        seen += '"content":"w' in line
                        if line == "data: [DONE]":
                            whole[request_id] = size
            except httpx.HTTPError:
                if request_id and request_id not in whole:
                    cut[request_id] = seen
                return
            if len(whole) >= before + WHOLE_A_LIFE:
                enough.set()

    async with httpx.AsyncClient(
        base_url=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"}, timeout=20
    ) as http:
        clients = [asyncio.create_task(client(http, number)) for number in range(16)]
        async with asyncio.timeout(30):
            await enough.wait()
        os.kill(gateway.process.pid, signal.SIGKILL)
        await asyncio.wait(clients)
    await asyncio.to_thread(gateway.process.wait)


def test_reports_of_a_site_that_serves(
    own: Callable[[], Gateway], inhouse: Inhouse, tmp_path: Path
) -> None:
    gateway = own()
    for _ in range(3):
        assert gateway.client.post(CHAT, json=body("a b c fake:tokens=5")).status_code == 200
    assert gateway.stop() == 0
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "fake.yaml").write_text(
        "name: fake\nsource: {path: none}\ncontext_tokens: 8192\n"
    )
    site = tmp_path / "site.yaml"
    site.write_text(
        f"site: dev\nvar_dir: {tmp_path}\nmodel_files: models\nengine_defaults: {{kind: fake}}\n"
        "models: [{use: fake}]\nprices: {models: {fake: [{input: 1, output: 2}]}}\n"
    )
    report = ("usage", "report", "--site", str(site))
    table = inhouse(*report, "--by", "tenant,model")
    assert table.code == 0, table.err
    titles, line, total = table.out.splitlines()
    assert titles.split()[:3] == ["tenant", "model", "requests"]
    assert line.split()[:2] == ["default", "fake"]
    assert total.split()[0] == "total"
    document = json.loads(inhouse(*report, "--format", "json").out)
    assert document["total"]["output_tokens"] >= 15
    assert document["total"]["unpriced_requests"] == document["total"]["requests"]
    rows = list(csv.DictReader(io.StringIO(inhouse(*report, "--format", "csv").out)))
    assert sum(int(row["requests"]) for row in rows) == document["total"]["requests"]
    hosted = str(Path(__file__).parents[2] / "configs" / "prices" / "hosted-2026-11.yaml")
    page = inhouse(*report, "--format", "html", "--hosted", hosted).out
    assert page.startswith("<!doctype html>")
    assert "would have cost" in page
    empty = inhouse(*report, "--from", "2020-01-01", "--to", "2020-01-31")
    assert empty.out.splitlines()[-1].split()[0] == "total"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--by", "tenant,mood"), "give any of tenant"),
        (("--from", "2026-02-01", "--to", "2026-01-01"), "is after"),
        (("--hosted", "nowhere.yaml"), "cannot be read"),
    ],
)
def test_a_report_that_cannot_be_made_says_why(
    words: tuple[str, ...], says: str, inhouse: Inhouse
) -> None:
    done = inhouse("usage", "report", *words)
    assert done.code == 2
    assert says in done.err


def test_a_site_that_was_never_served_says_so(inhouse: Inhouse, tmp_path: Path) -> None:
    (tmp_path / "fake.yaml").write_text("name: fake\nsource: {path: none}\ncontext_tokens: 8192\n")
    site = tmp_path / "site.yaml"
    site.write_text("site: x\nvar_dir: none\nmodel_files: .\nmodels: [{use: fake}]\n")
    done = inhouse("usage", "report", "--site", str(site))
    assert done.code == 3
    assert "has not been served yet" in done.err
    assert not (tmp_path / "none").exists()
