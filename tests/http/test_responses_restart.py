"""Kept responses outlive the server, however it ends."""

import time
from pathlib import Path
from typing import Any

from tests.conftest import Gateway, start_gateway


def start(var_dir: Path) -> Gateway:
    return start_gateway(
        var_dir, "dev", "--ttft-ms", "0", "--tpot-ms", "0", "--var-dir", str(var_dir)
    )


def create(gateway: Gateway, text: str, **fields: Any) -> dict[str, Any]:
    answer = gateway.client.post("/v1/responses", json={"model": "fake", "input": text, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def until(gateway: Gateway, response_id: str, *statuses: str) -> dict[str, Any]:
    for _ in range(400):
        body: dict[str, Any] = gateway.client.get(f"/v1/responses/{response_id}").json()
        if body["status"] in statuses:
            return body
        time.sleep(0.02)
    raise AssertionError(f"{response_id} is {body['status']}")


def first_delta(gateway: Gateway, response_id: str) -> None:
    path = f"/v1/responses/{response_id}"
    with gateway.client.stream("GET", path, params={"stream": "true"}) as following:
        for line in following.iter_lines():
            if line == "event: response.output_text.delta":
                return
    raise AssertionError("no output")


def test_a_server_that_is_killed(tmp_path: Path) -> None:
    before = start(tmp_path)
    done = create(before, "one two fake:tokens=2")
    begun = create(before, "fake:tokens=900 fake:pace=0.05", background=True)
    fresh = create(before, "fake:tokens=2 fake:prefill=1", background=True)
    first_delta(before, begun["id"])
    until(before, fresh["id"], "in_progress")
    before.process.kill()
    before.process.wait()
    before.client.close()

    after = start(tmp_path)
    try:
        failed = until(after, begun["id"], "failed")
        assert failed["error"]["code"] == "server_error"
        events = after.client.get(f"/v1/responses/{begun['id']}", params={"stream": "true"}).text
        assert "event: response.output_text.delta" in events
        assert events.count("event: response.failed") == 1
        assert after.client.get(f"/v1/responses/{done['id']}").json() == done
        second = create(after, "three", previous_response_id=done["id"])
        assert second["usage"]["input_tokens"] == 3 + 2 + 1
        assert until(after, fresh["id"], "completed")["output"][0]["content"][0]["text"] == "w0 w1"
    finally:
        assert after.stop() == 0
