"""The server's own tools with a real model, which is told to call one."""

import json
from typing import Any

import pytest

from tests.conftest import Gateway

pytestmark = pytest.mark.engine


def test_a_call_of_a_real_model(real: Gateway) -> None:
    asked: dict[str, Any] = {
        "model": "small",
        "input": "Add 2 and 3.",
        "temperature": 0,
        "max_output_tokens": 300,
        "tools": [{"type": "mcp", "server_label": "desk", "allowed_tools": ["add"]}],
        "tool_choice": {"type": "mcp", "server_label": "desk", "name": "add"},
    }
    answer = real.client.post("/v1/responses", json=asked)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    listed, call, *rest = body["output"]
    assert [tool["name"] for tool in listed["tools"]] == ["add"]
    assert (call["type"], call["name"]) == ("mcp_call", "add")
    # A model of this size writes what it likes: it is called, or told why not, and goes on.
    if call["status"] == "completed":
        arguments = json.loads(call["arguments"])
        assert call["output"] == f"the sum is {arguments['a'] + arguments.get('b', 1)}"
    else:
        assert call["error"]["type"] in ("mcp_protocol_error", "mcp_tool_execution_error")
    assert body["status"] in ("completed", "incomplete")
    assert rest[-1]["type"] in ("message", "mcp_call")
    second = real.client.post(
        "/v1/responses",
        json={"model": "small", "input": "Thanks.", "max_output_tokens": 5,
              "previous_response_id": body["id"]},
    )  # fmt: skip
    assert second.status_code == 200, second.text
    assert second.json()["usage"]["input_tokens_details"]["cached_tokens"] > 0
