"""Batches on real weights."""

import json
import time
from typing import Any

import openai
import pytest
from openai.types import Batch

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

CHAT: Any = "/v1/chat/completions"


def begin(sdk: openai.OpenAI, count: int) -> Batch:
    lines = []
    for number in range(count):
        body = {
            "model": "small",
            "messages": [{"role": "user", "content": f"What is {number} plus one?"}],
            "max_completion_tokens": 4 + number % 5,
            "temperature": 0,
        }
        request = {"custom_id": f"l{number}", "method": "POST", "url": CHAT, "body": body}
        lines.append(json.dumps(request))
    file = sdk.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    return sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


def ended(sdk: openai.OpenAI, batch: Batch, timeout_s: float) -> list[dict[str, Any]]:
    deadline_s = time.monotonic() + timeout_s
    now = batch
    while now.status in ("validating", "in_progress", "finalizing"):
        assert time.monotonic() < deadline_s, now.request_counts
        time.sleep(0.2)
        now = sdk.batches.retrieve(batch.id)
    assert now.status == "completed"
    assert now.error_file_id is None
    assert now.output_file_id is not None
    text = sdk.files.content(now.output_file_id).text
    found = [json.loads(one) for one in text.splitlines()]
    used = sum(one["response"]["body"]["usage"]["completion_tokens"] for one in found)
    assert now.usage is not None
    assert now.usage.output_tokens == used
    return found


def check(found: list[dict[str, Any]], count: int) -> None:
    assert [one["custom_id"] for one in found] == [f"l{number}" for number in range(count)]
    for number, one in enumerate(found):
        answer = one["response"]["body"]
        assert answer["model"] == "smollm2-135m-2026-11-01"
        assert answer["choices"][0]["message"]["content"]
        assert 1 <= answer["usage"]["completion_tokens"] <= 4 + number % 5


def test_a_few_lines_beside_a_person(sdk: openai.OpenAI) -> None:
    batch = begin(sdk, 6)
    answer = sdk.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Hi"}], max_completion_tokens=3
    )
    assert answer.choices
    check(ended(sdk, batch, 120), 6)


@pytest.mark.long
def test_two_hundred_lines(sdk: openai.OpenAI) -> None:
    check(ended(sdk, begin(sdk, 200), 600), 200)
