"""One object of each kind that is kept, made over HTTP."""

import json
from typing import Any

import httpx


def things(client: httpx.Client, model: str) -> dict[str, str]:
    """An object of each kind, by the name of the parameter that its id is."""

    def made(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    chat = {"model": model, "messages": [{"role": "user", "content": "hi"}], "store": True}
    talk = made("/v1/conversations", {"items": [{"role": "user", "content": "hi"}]})
    items = client.get(f"/v1/conversations/{talk['id']}/items").json()["data"]
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat}
    sent = {"file": ("in.jsonl", json.dumps(line).encode())}
    file = client.post("/v1/files", data={"purpose": "batch"}, files=sent).json()
    batch = {"input_file_id": file["id"], "endpoint": line["url"], "completion_window": "24h"}
    upload = {"filename": "f", "purpose": "batch", "bytes": 2, "mime_type": "text/plain"}
    return {
        "completion_id": made("/v1/chat/completions", chat)["id"],
        "response_id": made("/v1/responses", {"model": model, "input": "hi"})["id"],
        "conversation_id": talk["id"],
        "item_id": items[0]["id"],
        "file_id": file["id"],
        "batch_id": made("/v1/batches", batch)["id"],
        "upload_id": made("/v1/uploads", upload)["id"],
        "name": model,
    }
