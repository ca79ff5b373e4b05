"""A gateway whose engine stops making steps and says that it is well."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Gateway, start_gateway

CHAT = "/v1/chat/completions"
SITE = """\
site: t
root: .
model_files: models
auth: {mode: none}
engine_defaults: {kind: fake, hang_idle_s: 1, hang_loaded_s: 1.5, progress_every_s: 0.1}
models: [{use: fake}]
"""


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}]} | fields


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Gateway]:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "fake.yaml").write_text(
        "name: fake\nsource: {path: none}\ncontext_tokens: 1000\n"
    )
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "starter.key").write_text("none")  # what `start_gateway` waits for
    gateway = start_gateway(tmp_path, "serve", "--site", str(tmp_path / "site.yaml"))
    yield gateway
    assert gateway.stop() == 0


def test_a_stalled_engine_is_replaced_and_its_streams_end_with_an_error(own: Gateway) -> None:
    begun_s = time.monotonic()
    with own.client.stream("POST", CHAT, json=body("fake:stall@2", stream=True)) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert time.monotonic() - begun_s < 1.5 + 1
    assert '"w0 "' in "".join(lines)
    assert '"error"' in lines[-1] or '"error"' in lines[-2]
    again = own.client.post(CHAT, json=body("hi"))
    assert again.status_code == 200
    page = own.client.get("/metrics").text
    assert 'inhouse_engine_hangs_total{model="fake"} 1.0' in page
    assert 'inhouse_engine_restarts_total{model="fake"} 1.0' in page


def test_a_prompt_longer_than_the_bound_is_answered(own: Gateway) -> None:
    answer = own.client.post(CHAT, json=body("fake:prefill=2"))
    assert answer.status_code == 200
    assert 'inhouse_engine_hangs_total{model="fake"} 0.0' in own.client.get("/metrics").text
