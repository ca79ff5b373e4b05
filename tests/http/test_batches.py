"""`/v1/batches` with the openai SDK over the fake engine: every line once, whatever happens."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.conftest import Gateway, Inhouse, start_gateway

ENDED = ("completed", "failed", "expired", "cancelled")
CHAT = "/v1/chat/completions"


def sdk_of(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


@pytest.fixture(scope="module")
def sdk(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with sdk_of(gateway) as client:
        yield client


def line(custom_id: str, text: str = "fake:tokens=2", url: str = CHAT, **more: Any) -> str:
    body: dict[str, Any] = {"model": "fake", **more}
    if url == CHAT:
        body["messages"] = [{"role": "user", "content": text}]
    else:
        body["prompt"] = text
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def begin(sdk: openai.OpenAI, lines: list[str], endpoint: Any = CHAT, **more: Any) -> Batch:
    file = sdk.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    more.setdefault("completion_window", "24h")
    return sdk.batches.create(input_file_id=file.id, endpoint=endpoint, **more)


def ended(sdk: openai.OpenAI, batch: Batch, timeout_s: float = 30) -> Batch:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        now = sdk.batches.retrieve(batch.id)
        if now.status in ENDED:
            return now
        time.sleep(0.02)
    raise AssertionError(f"still {now.status}: {now.request_counts}")


def results(sdk: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(one) for one in sdk.files.content(file_id).text.splitlines()]


def test_a_batch_from_its_file_to_its_results(sdk: openai.OpenAI) -> None:
    lines = [line(f"l{number}", f"fake:tokens={number % 3 + 1}") for number in range(40)]
    lines[7] = line("unknown", model="none")
    lines[8] = line("streamed", stream=True)
    lines[9] = line("unfit", temperature=9)
    batch = begin(sdk, lines, metadata={"job": "nightly"})
    assert batch.status == "validating"
    assert batch.expires_at == batch.created_at + 86_400
    done = ended(sdk, batch)
    assert done.status == "completed"
    assert done.metadata == {"job": "nightly"}
    counts = done.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (40, 37, 3)
    assert done.in_progress_at and done.finalizing_at and done.completed_at
    good = results(sdk, done.output_file_id)
    names = [json.loads(one)["custom_id"] for one in lines]
    assert [one["custom_id"] for one in good] == names[:7] + names[10:]
    for one in good:
        assert one["id"].startswith("batch_req_")
        assert one["error"] is None
        assert one["response"]["status_code"] == 200
        assert one["response"]["request_id"].startswith("req_")
        answer = one["response"]["body"]
        wanted = int(one["custom_id"][1:]) % 3 + 1
        assert answer["usage"]["completion_tokens"] == wanted
        assert len(answer["choices"][0]["message"]["content"].split()) == wanted
    assert len({one["id"] for one in good}) == 37
    assert done.usage is not None
    assert done.usage.output_tokens == sum(
        one["response"]["body"]["usage"]["completion_tokens"] for one in good
    )
    bad = {one["custom_id"]: one["response"] for one in results(sdk, done.error_file_id)}
    assert {name: one["status_code"] for name, one in bad.items()} == {
        "unknown": 404, "streamed": 400, "unfit": 400,
    }  # fmt: skip
    assert bad["unknown"]["body"]["error"]["code"] == "model_not_found"
    assert bad["streamed"]["body"]["error"]["param"] == "stream"
    file = sdk.files.retrieve(str(done.output_file_id))
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")


def test_completions_too(sdk: openai.OpenAI) -> None:
    lines = [line(f"c{number}", url="/v1/completions") for number in range(3)]
    done = ended(sdk, begin(sdk, lines, endpoint="/v1/completions"))
    assert done.error_file_id is None
    assert [one["response"]["body"]["object"] for one in results(sdk, done.output_file_id)] == [
        "text_completion"
    ] * 3


def test_three_hundred_lines_and_their_metrics(gateway: Gateway, sdk: openai.OpenAI) -> None:
    before = completed_lines(gateway)
    done = ended(sdk, begin(sdk, [line(f"l{number}") for number in range(300)]))
    names = [one["custom_id"] for one in results(sdk, done.output_file_id)]
    assert names == [f"l{number}" for number in range(300)]
    assert done.model == "fake"
    assert completed_lines(gateway) == before + 300
    assert 'inhouse_batches{status="in_progress"} 0.0' in gateway.client.get("/metrics").text


def completed_lines(gateway: Gateway) -> float:
    for one in gateway.client.get("/metrics").text.splitlines():
        if one.startswith('inhouse_batch_lines_total{outcome="completed"}'):
            return float(one.rpartition(" ")[2])
    return 0


def test_a_bad_file_fails_with_the_numbers_of_its_lines(sdk: openai.OpenAI) -> None:
    lines = [line("a"), "", "{", line("a"), line("b", url="/v1/completions")]
    done = ended(sdk, begin(sdk, lines))
    assert done.status == "failed"
    assert done.failed_at is not None
    assert done.output_file_id is None
    assert done.errors is not None and done.errors.data is not None
    assert done.errors.object == "list"
    assert [(one.line, one.code) for one in done.errors.data] == [
        (3, "invalid_json_line"), (4, "duplicate_custom_id"), (5, "mismatched_endpoint"),
    ]  # fmt: skip


def test_a_cancelled_batch_keeps_what_it_has(sdk: openai.OpenAI) -> None:
    lines = [line("quick")]
    lines += [line(f"slow{number}", "fake:tokens=200 fake:pace=0.1") for number in range(30)]
    batch = begin(sdk, lines)
    until(lambda: counts_of(sdk, batch)[1] == 1)
    assert sdk.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = ended(sdk, batch)
    assert done.status == "cancelled"
    assert done.cancelling_at is not None and done.cancelled_at is not None
    assert [one["custom_id"] for one in results(sdk, done.output_file_id)] == ["quick"]
    unrun = results(sdk, done.error_file_id)
    assert len(unrun) == 30
    assert {one["error"]["code"] for one in unrun} == {"batch_cancelled"}
    assert {one["response"] is None for one in unrun} == {True}
    with pytest.raises(openai.ConflictError, match="status 'cancelled'"):
        sdk.batches.cancel(batch.id)


def counts_of(sdk: openai.OpenAI, batch: Batch) -> tuple[int, int, int]:
    counts = sdk.batches.retrieve(batch.id).request_counts
    assert counts is not None
    return counts.total, counts.completed, counts.failed


def until(holds: Any, timeout_s: float = 20) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_lists_and_unknown_ids(sdk: openai.OpenAI) -> None:
    made = [ended(sdk, begin(sdk, [line("a")])).id for _ in range(3)]
    page = sdk.batches.list(limit=2)
    assert [one.id for one in page.data] == made[:0:-1]
    assert page.has_more
    assert sdk.batches.list(limit=2, after=made[1]).data[0].id == made[0]
    for call in (sdk.batches.retrieve, sdk.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="No batch found"):
            call("batch_none")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"completion_window": "8d"}, "completion_window"),
        ({"completion_window": None}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at"}}, "output_expires_after.seconds"),
        ({"prompt": "x"}, "prompt"),
    ],
)
def test_what_cannot_be_a_batch(
    gateway: Gateway, sdk: openai.OpenAI, change: dict[str, Any], param: str
) -> None:
    file = sdk.files.create(file=("in.jsonl", line("a").encode()), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **change}
    answer = gateway.client.post("/v1/batches", json=body)
    assert answer.status_code == (404 if change.get("input_file_id") else 400)
    assert answer.json()["error"]["param"] == param


def test_a_file_of_another_purpose_is_no_input(gateway: Gateway, sdk: openai.OpenAI) -> None:
    file = sdk.files.create(file=("in.jsonl", line("a").encode()), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="must have 'batch'"):
        sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


def test_the_input_may_be_deleted_while_it_runs(sdk: openai.OpenAI) -> None:
    lines = [line(f"l{number}", "fake:tokens=5 fake:pace=0.01") for number in range(60)]
    batch = begin(sdk, lines)
    sdk.files.delete(batch.input_file_id)
    done = ended(sdk, batch)
    assert done.request_counts is not None
    assert done.request_counts.completed == 60


def killed_and_restarted(
    var_dir: Path, count: int, text: str, kills: int, pause_s: float, timeout_s: float
) -> list[str]:
    """The lines of a batch's output, in order, after its server was killed so often."""
    words = ("dev", "--ttft-ms", "0", "--tpot-ms", "0", "--var-dir", str(var_dir))
    gateway = start_gateway(var_dir, *words)
    try:
        with sdk_of(gateway) as sdk:
            batch = begin(sdk, [line(f"l{number}", text) for number in range(count)])
        for _ in range(kills):
            time.sleep(pause_s)
            gateway.process.send_signal(signal.SIGKILL)
            gateway.process.wait()
            gateway.client.close()
            gateway = start_gateway(var_dir, *words)
        with sdk_of(gateway) as sdk:
            done = ended(sdk, batch, timeout_s)
            assert done.status == "completed"
            assert counts_of(sdk, batch) == (count, count, 0)
            # The batch's own name for its input goes after its end has been seen.
            wanted = {batch.input_file_id, done.output_file_id}
            until(lambda: {one.name for one in (var_dir / "files").iterdir()} == wanted)
            return [one["custom_id"] for one in results(sdk, done.output_file_id)]
    finally:
        gateway.stop()


def test_a_killed_server_goes_on_and_no_line_is_lost_or_doubled(tmp_path: Path) -> None:
    lines = killed_and_restarted(
        tmp_path, 120, "fake:tokens=4 fake:pace=0.02", kills=1, pause_s=0.4, timeout_s=30
    )
    assert lines == [f"l{number}" for number in range(120)]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_lines_through_five_kills(tmp_path: Path) -> None:
    lines = killed_and_restarted(
        tmp_path, 10_000, "fake:tokens=2", kills=5, pause_s=1.5, timeout_s=400
    )
    assert lines == [f"l{number}" for number in range(10_000)]


def test_lines_give_way_to_requests(gateway: Gateway, sdk: openai.OpenAI) -> None:
    batch = begin(sdk, [line(f"l{n}", "fake:tokens=10 fake:pace=0.02") for n in range(120)])
    until(lambda: counts_of(sdk, batch)[1] >= 16)
    with sdk.chat.completions.create(
        model="fake",
        messages=[{"role": "user", "content": "fake:tokens=80 fake:pace=0.02"}],
        stream=True,
    ) as stream:
        next(stream)
        before = counts_of(sdk, batch)[1]
        assert sum(1 for _ in stream) > 70
        beside = counts_of(sdk, batch)[1] - before
    # 16 that ran already, then one after another: 1.6 s at 0.2 s each.
    assert 0 < beside < 16 + 12
    done = ended(sdk, batch)
    assert done.status == "completed"
    assert counts_of(sdk, batch) == (120, 120, 0)


def test_the_operator_sees_them_and_may_end_one(
    gateway: Gateway, sdk: openai.OpenAI, inhouse: Inhouse
) -> None:
    batch = begin(sdk, [line(f"l{n}", "fake:tokens=200 fake:pace=0.1") for n in range(9)])
    until(lambda: sdk.batches.retrieve(batch.id).status == "in_progress")
    socket = str(gateway.var_dir / "run" / "admin.sock")
    shown = inhouse("batches", "--socket", socket)
    row = next(one for one in shown.out.splitlines() if one.startswith(batch.id)).split()
    assert row[1:7] == ["in_progress", row[2], CHAT, "9", "0", "0"]
    done = inhouse("batches", "--socket", socket, "--cancel", batch.id)
    assert (done.code, done.out.split()[0]) == (0, f"{batch.id}:")
    assert ended(sdk, batch).status == "cancelled"
    again = inhouse("batches", "--socket", socket, "--cancel", batch.id)
    assert again.code == 1
    assert "status 'cancelled'" in again.err


def test_responses_too(sdk: openai.OpenAI) -> None:
    request = {"custom_id": "r", "method": "POST", "url": "/v1/responses",
               "body": {"model": "fake", "input": "fake:tokens=3"}}  # fmt: skip
    refused = {**request, "custom_id": "b",
               "body": {"model": "fake", "input": "x", "background": True}}  # fmt: skip
    done = ended(
        sdk, begin(sdk, [json.dumps(request), json.dumps(refused)], endpoint="/v1/responses")
    )
    (good,) = results(sdk, done.output_file_id)
    assert good["response"]["body"]["status"] == "completed"
    (bad,) = results(sdk, done.error_file_id)
    assert bad["response"]["body"]["error"]["param"] == "background"
    assert done.usage is not None
    assert done.usage.output_tokens == 3
