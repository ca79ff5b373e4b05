"""Files that are too large, and files of lines that are none: refused, and nothing is left."""

import json
import select
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Gateway

GIGABYTE = 2**30
CHAT = "/v1/chat/completions"
MOST_GROWTH_MIB = 48


def resident_mib(gateway: Gateway) -> float:
    """The most memory that the gateway has had."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    line = next(one for one in status.splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def stored(gateway: Gateway) -> set[str]:
    folder = gateway.var_dir / "files"
    return {str(one) for one in folder.rglob("*") if one.is_file()}


@pytest.mark.parametrize("path", ["/v1/files", "/v1/uploads/{upload_id}/parts"])
def test_a_gigabyte_without_a_length_is_read_to_the_bound_only(gateway: Gateway, path: str) -> None:
    """It comes in chunks; the answer comes while it does, and memory stays what it was."""
    upload = {"filename": "f", "purpose": "batch", "bytes": GIGABYTE, "mime_type": "x/y"}
    if "upload_id" in path:
        upload["bytes"] = 2**29
        made = gateway.client.post("/v1/uploads", json=upload)
        assert made.status_code == 200, made.text
        path = path.replace("{upload_id}", made.json()["id"])
    before, files = resident_mib(gateway), stored(gateway)
    name = "data" if path.endswith("parts") else "file"
    begin = f'--B\r\ncontent-disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode()
    piece = b"x" * 2**20
    sent = 0
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
            "content-type: multipart/form-data; boundary=B\r\n"
            "transfer-encoding: chunked\r\n\r\n".encode()
        )
        connection.sendall(b"%x\r\n%b\r\n" % (len(begin), begin))
        while sent < GIGABYTE and not select.select([connection], [], [], 0)[0]:
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += len(piece)
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413 "), answer
    error = json.loads(answer.partition("\r\n\r\n")[2])["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")
    assert sent < GIGABYTE
    assert resident_mib(gateway) - before < MOST_GROWTH_MIB
    deadline_s = time.monotonic() + 5
    while stored(gateway) != files:
        assert time.monotonic() < deadline_s, "half a file is left"
        time.sleep(0.02)


def test_an_upload_larger_than_the_site_takes_is_not_begun(gateway: Gateway) -> None:
    upload = {"filename": "f", "purpose": "batch", "bytes": 2**40, "mime_type": "x/y"}
    answer = gateway.client.post("/v1/uploads", json=upload)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "bytes"


def file_of(gateway: Gateway, content: bytes, purpose: str = "batch") -> str:
    sent = {"file": ("in.jsonl", content)}
    answer = gateway.client.post("/v1/files", data={"purpose": purpose}, files=sent)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def batch_of(gateway: Gateway, file_id: str) -> dict[str, Any]:
    """The batch at its end."""
    asked = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    made = gateway.client.post("/v1/batches", json=asked)
    assert made.status_code == 200, made.text
    deadline_s = time.monotonic() + 20
    while True:
        batch: dict[str, Any] = gateway.client.get(f"/v1/batches/{made.json()['id']}").json()
        if batch["status"] in ("completed", "failed"):
            return batch
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def line(custom_id: str) -> bytes:
    body = {"model": "fake", "messages": [{"role": "user", "content": "fake:tokens=1"}]}
    return json.dumps(
        {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}
    ).encode()


@pytest.mark.parametrize(
    ("content", "number", "code"),
    [
        (line("a") + b'\n{"custom_id": "\xff\xfe"}', 2, "invalid_json_line"),
        (b"\xff" + line("a"), 1, "invalid_json_line"),
        (line("a").replace(b'"a"', b'"\\ud800"'), 1, "invalid_json_line"),
        (line("a") + b"\n" + line("b") + b"\n" + line("a"), 3, "duplicate_custom_id"),
        (b"[]", 1, "invalid_json_line"),
        (b"", None, "empty_file"),
        (b"\n\n", None, "empty_file"),
    ],
)
def test_lines_that_are_none(
    gateway: Gateway, content: bytes, number: int | None, code: str
) -> None:
    """All of a file is refused for one of its lines, and none of it is run."""
    batch = batch_of(gateway, file_of(gateway, content))
    assert batch["status"] == "failed"
    assert [(one["line"], one["code"]) for one in batch["errors"]["data"]] == [(number, code)]
    assert (batch["output_file_id"], batch["error_file_id"]) == (None, None)
    assert batch["request_counts"]["completed"] == batch["request_counts"]["failed"] == 0


def test_what_a_batch_has_made_is_no_input_of_another(gateway: Gateway) -> None:
    done = batch_of(gateway, file_of(gateway, line("a")))
    assert done["status"] == "completed"
    for file_id in (done["output_file_id"], file_of(gateway, line("a"), "user_data")):
        before = len(gateway.client.get("/v1/batches", params={"limit": 100}).json()["data"])
        asked = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        answer = gateway.client.post("/v1/batches", json=asked)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "input_file_id"
        after = len(gateway.client.get("/v1/batches", params={"limit": 100}).json()["data"])
        assert after == before


@pytest.mark.parametrize("past", [1, 10**6, 10**14])
def test_a_stream_is_not_resumed_past_its_end(gateway: Gateway, past: int) -> None:
    asked = {"model": "fake", "input": "fake:tokens=2", "background": True}
    made = gateway.client.post("/v1/responses", json=asked).json()
    there = f"/v1/responses/{made['id']}"
    events = gateway.client.get(there, params={"stream": "true"}).text.count("\ndata: ")
    assert events > 5
    last = gateway.client.get(there, params={"stream": "true", "starting_after": events - 1})
    assert (last.status_code, last.text) == (200, "")
    beyond = {"stream": "true", "starting_after": str(events - 1 + past)}
    answer = gateway.client.get(there, params=beyond)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "starting_after")
