"""Sites applied to a running server: under load, by signal, by file watch, and wrong ones."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.applied import Applied


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """Tests leave it answering."""
    one = Applied(tmp_path_factory.mktemp("apply"))
    yield one
    one.close()


async def stream(client: httpx.AsyncClient, told: str) -> str:
    """The fingerprint of one answer that has been streamed to its end."""
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": told}],
        "stream": True,
    }
    fingerprint, finish, last = "", None, ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        async for line in answer.aiter_lines():
            if not line:
                continue
            last = line.removeprefix("data: ")
            if last != "[DONE]":
                chunk = json.loads(last)
                assert "error" not in chunk, chunk
                fingerprint = chunk["system_fingerprint"]
                for choice in chunk["choices"]:
                    finish = choice["finish_reason"] or finish
    assert (finish, last) == ("stop", "[DONE]")
    return fingerprint


def test_one_long_answer_ends_on_the_engine_that_began_it(applied: Applied) -> None:
    async def over_an_apply() -> str:
        async with applied.client() as client:
            before = await stream(client, "fake:tokens=1")
            long = asyncio.create_task(stream(client, "fake:prefill=2"))
            await asyncio.sleep(0.2)
            applied.write(1100)
            began_s = time.monotonic()
            ended = (await asyncio.to_thread(applied.apply))[-1]
            assert ended["outcome"] == "applied"
            assert time.monotonic() - began_s > 1  # the old engine was let finish
            assert await long == before != await stream(client, "fake:tokens=1")
        return before

    assert asyncio.run(over_an_apply())


def test_requests_wait_where_memory_is_for_one(tmp_path: Path) -> None:
    tight = {"more": "memory: {host_gib: 3}", "entry": "cpu_kv_gib: 2"}
    one = Applied(tmp_path, **tight)

    async def load() -> list[dict[str, Any]]:
        async with one.client() as client:
            one.write(1001, **tight)
            applying = asyncio.create_task(asyncio.to_thread(one.apply))
            seen = set()
            while not applying.done():
                seen |= set(await asyncio.gather(*(stream(client, "hi") for _ in range(4))))
            assert len(seen) == 2
        return applying.result()

    try:
        told = asyncio.run(load())
        assert told[-1]["outcome"] == "applied"
        assert "waiting" in [event["stage"] for event in told]
        assert one.context() == 1001
    finally:
        print(one.log())
        one.close()


def test_a_signal_applies_the_site_file(applied: Applied) -> None:
    applied.write(1200)
    applied.gateway.process.send_signal(signal.SIGHUP)
    applied.until(lambda: applied.context() == 1200)
    assert applied.gateway.process.poll() is None


def test_a_changed_file_is_applied_where_the_site_says_so(applied: Applied) -> None:
    watching = "reload: {watch: true, watch_every_s: 0.1}"
    applied.write(1300, more=watching)
    assert applied.apply()[-1]["outcome"] == "applied"
    applied.write(1301, more=watching)
    applied.until(lambda: applied.context() == 1301)
    # A wrong one is said so in the log, and mended by the next change.
    applied.site_file.write_text("site: t\nmodels: []\n")
    applied.until(lambda: "models: found []" in applied.log())
    assert applied.context() == 1301
    applied.write(1302)
    applied.until(lambda: applied.context() == 1302)


def test_wrong_files_change_nothing(applied: Applied) -> None:
    applied.write(1400)
    assert applied.apply()[-1]["outcome"] == "applied"
    pids = applied.gateway.engine_pids()
    whole = applied.site_file.read_bytes()
    for end in range(0, len(whole), 7):
        applied.site_file.write_bytes(whole[:end])
        (refused,) = applied.apply()
        assert refused["error"]["code"] == "invalid_site"
        assert "site.yaml" in refused["error"]["message"]
    applied.write(1400, more="listen: {port: 1}\nreload: {watch_every_s: x}")
    (refused,) = applied.apply()
    assert "reload.watch_every_s" in refused["error"]["message"]
    assert applied.gateway.engine_pids() == pids
    assert applied.context() == 1400


def test_an_engine_that_dies_as_it_starts_is_left_out(applied: Applied) -> None:
    before = applied.gateway.engine_pids()
    context = applied.context()
    applied.write(1500)
    told: list[dict[str, Any]] = []
    applied.until(lambda: applied.admin.get("/admin/v1/release").json()["applying"] is None)
    with applied.admin.stream(
        "POST", "/admin/v1/apply", json={"site_file": str(applied.site_file)}
    ) as answer:
        for line in answer.iter_lines():
            told.append(json.loads(line))
            if told[-1]["stage"] == "starting":
                applied.until(lambda: len(applied.gateway.engine_pids()) == 2)
                (new,) = set(applied.gateway.engine_pids()) - set(before)
                os.kill(new, signal.SIGKILL)
    assert told[-1]["outcome"] == "rolled_back"
    assert "could not be started" in told[-1]["text"]
    assert applied.gateway.engine_pids() == before
    assert applied.context() == context
    assert applied.apply()[-1]["outcome"] == "applied"


def test_an_evaluation_decides(applied: Applied) -> None:
    asked = applied.root / "evals.jsonl"

    def question(told: str, expected: str) -> str:
        message = {"role": "user", "content": told}
        return json.dumps({"messages": [message], "expected": {"exact": expected}})

    entry = f"evals: [{{path: {asked}, threshold: 0.6}}]"
    asked.write_text(f"{question('fake:say=a', 'a')}\n{question('fake:say=a', 'b')}\n")
    context = applied.context()
    applied.write(1600, entry=entry)
    told = applied.apply()
    assert told[-1]["outcome"] == "rolled_back"
    assert """1 of 2 passed, at least 60% must: case at line 2""" in told[-1]["text"]
    assert applied.context() == context
    asked.write_text(f"{question('fake:say=a', 'a')}\n{question('fake:say=b', 'b')}\n")
    told = applied.apply()
    assert told[-1]["outcome"] == "applied"
    assert [one["text"] for one in told if one["stage"] == "evaluating"][-1].endswith(
        "2 of 2 passed"
    )
    kept = [json.loads(one.read_bytes()) for one in (applied.root / "release/evals").iterdir()]
    assert sorted(one["good"] for one in kept) == [False, True]
    asked.write_text("{\n")
    (refused,) = applied.apply()
    assert "evals.jsonl:1: not JSON" in refused["error"]["message"]
