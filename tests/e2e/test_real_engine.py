"""Real weights through real vLLM and the openai SDK."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import openai
import pytest

from tests.conftest import Gateway

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

MODEL = "smollm2-135m"
PARIS: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


def engine_series(gateway: Gateway, name: str) -> float:
    page = gateway.client.get("/metrics").text
    found = re.search(rf"^vllm:{name}\{{.*\}} ([\d.e+]+)$", page, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def running(gateway: Gateway) -> float:
    return engine_series(gateway, "num_requests_running")


def test_paris_unstreamed(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model=MODEL, messages=PARIS, temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.model == "smollm2-135m-2026-11-01"
    assert answer.system_fingerprint
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_paris_streamed_equals_unstreamed(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="small", messages=PARIS, temperature=0)
    chunks = list(
        sdk.chat.completions.create(
            model="small",
            messages=PARIS,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].delta.role for c in chunks if c.choices].count("assistant") == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_json_schema_is_kept(sdk: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "big": {"type": "boolean"}},
        "required": ["city", "big"],
        "additionalProperties": False,
    }
    answer = sdk.chat.completions.create(
        model=MODEL,
        messages=PARIS,
        temperature=0,
        max_completion_tokens=100,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "city", "schema": schema, "strict": True},
        },
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert set(found) == {"city", "big"}
    assert isinstance(found["big"], bool)


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_tool_is_called_with_valid_arguments(sdk: openai.OpenAI, stream: bool) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    }
    function = {"name": "weather", "parameters": parameters, "strict": True}
    asked: Any = {
        "model": MODEL, "messages": PARIS, "temperature": 0, "max_completion_tokens": 200,
        "tools": [{"type": "function", "function": function}], "tool_choice": "required",
    }  # fmt: skip
    if stream:
        chunks = list(sdk.chat.completions.create(**asked, stream=True))
        deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or []]
        assert deltas[0].id
        assert deltas[0].function.name == "weather"
        arguments = "".join(d.function.arguments or "" for d in deltas if d.index == 0)
        finish = chunks[-1].choices[0].finish_reason
    else:
        choice = sdk.chat.completions.create(**asked).choices[0]
        assert choice.message.tool_calls is not None
        arguments = choice.message.tool_calls[0].function.arguments
        finish = choice.finish_reason
    assert finish == "tool_calls"
    assert isinstance(json.loads(arguments)["city"], str)


def test_logprobs_n_stop_and_seed(sdk: openai.OpenAI) -> None:
    asked: Any = {
        "model": MODEL, "messages": PARIS, "n": 2, "seed": 7, "logprobs": True,
        "top_logprobs": 3, "max_completion_tokens": 4, "temperature": 0.8,
    }  # fmt: skip
    first = sdk.chat.completions.create(**asked)
    again = sdk.chat.completions.create(**asked)
    assert [c.message.content for c in first.choices] == [c.message.content for c in again.choices]
    assert first.choices[0].logprobs is not None
    content = first.choices[0].logprobs.content
    assert content is not None
    assert len(content[0].top_logprobs) == 3
    stopped = sdk.chat.completions.create(
        model=MODEL, messages=PARIS, temperature=0, stop=["Paris"]
    )
    assert "Paris" not in (stopped.choices[0].message.content or "")
    assert stopped.choices[0].finish_reason == "stop"


def test_completions(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0, logprobs=2
    )
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].finish_reason == "length"


def test_a_prompt_beyond_the_context(sdk: openai.OpenAI) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=MODEL, messages=long, stream=True)
    assert caught.value.code == "context_length_exceeded"
    # Fits by the gateway's lower bound, but not with the template's own tokens.
    nearly: list[Any] = [{"role": "user", "content": "word " * 8170}]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=MODEL, messages=nearly, stream=True)
    assert caught.value.code == "context_length_exceeded"


def test_a_client_that_leaves_frees_the_engine(real: Gateway) -> None:
    before = engine_series(real, "generation_tokens_total")
    body = {
        "model": MODEL, "messages": PARIS, "stream": True, "ignore_eos": True,
        "max_completion_tokens": 2000,
    }  # fmt: skip
    with real.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        pieces = answer.iter_raw()
        assert next(pieces)
        assert running(real) == 1
    deadline_s = time.monotonic() + 30
    while running(real) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert running(real) == 0
    # Judged by what was computed, not by the clock of a machine that others use as well.
    assert engine_series(real, "generation_tokens_total") - before < 1000


def test_the_engine_s_socket_is_private(real: Gateway) -> None:
    run = real.var_dir / "run"
    assert run.stat().st_mode & 0o777 == 0o700
    sockets = list(run.glob("*.sock"))
    assert len(sockets) == 2, "the engine's and the operator's"
    assert all(socket.stat().st_mode & 0o077 == 0 for socket in sockets)


def test_the_pasted_snippet_works(real: Gateway) -> None:
    shown = (real.var_dir / "stdout.txt").read_text()
    curl = shown[shown.index("curl ") : shown.index("\n\nfrom openai")]
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True)
    assert "Paris" in json.loads(done.stdout)["choices"][0]["message"]["content"]
    python = shown[shown.index("from openai") : shown.index("\n\nCtrl-C")]
    done = subprocess.run(
        [sys.executable, "-c", python], capture_output=True, text=True, check=True
    )
    assert "Paris" in done.stdout


def test_a_killed_engine_answers_again_without_touching_the_gateway(
    real: Gateway, sdk: openai.OpenAI
) -> None:
    (engine,) = real.engine_pids()
    os.kill(engine, signal.SIGKILL)
    answer = sdk.chat.completions.create(model=MODEL, messages=PARIS, temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert real.process.poll() is None
    assert real.engine_pids() != [engine]


def test_the_engine_takes_the_priority_of_a_tier(sdk: openai.OpenAI) -> None:
    for tier in ("flex", "priority"):
        options: Any = {"service_tier": tier}
        answer = sdk.chat.completions.create(
            model=MODEL, messages=PARIS, max_completion_tokens=2, **options
        )
        assert answer.service_tier == tier
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 2
