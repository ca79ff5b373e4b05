"""A gateway whose tenants and keys are made over its admin socket, for several test modules."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import Gateway, start_gateway

SITE = """\
site: t
root: .
model_files: models
var_dir: .
engine_defaults: {kind: fake}
limits: {queue_requests: 1000}
models:
  - {use: fake, aliases: [default]}
  - {use: large}
routes:
  - {name: auto, otherwise: large, rules: [{name: tools, model: fake, when: {tools: true}}]}
"""
CHAT = "/v1/chat/completions"


def started(folder: Path, site: str = SITE) -> Gateway:
    (folder / "models").mkdir()
    for name in ("fake", "large"):
        (folder / "models" / f"{name}.yaml").write_text(
            f"name: {name}\nsource: {{path: none}}\ncontext_tokens: 4000\n"
        )
    (folder / "site.yaml").write_text(site)
    return start_gateway(folder, "serve", "--site", str(folder / "site.yaml"), "--starter-key")


def admin_of(gateway: Gateway) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(gateway.var_dir / "run" / "admin.sock"))
    return httpx.Client(transport=transport, base_url="http://localhost", timeout=30)


class Desk(ExitStack):
    """Makes tenants and keys, and closes the clients of them."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.admin = self.enter_context(admin_of(gateway))
        self._gateway = gateway

    def tenant(self, name: str, **terms: Any) -> None:
        assert self.admin.post("/admin/v1/tenants", json={"name": name} | terms).is_success

    def key(self, name: str, tenant: str = "default", **more: Any) -> str:
        made = self.admin.post("/admin/v1/keys", json={"name": name, "tenant": tenant} | more)
        assert made.is_success, made.text
        return str(made.json()["key"])

    def client(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=self._gateway.url, headers=headers, timeout=30)
        return self.enter_context(client)

    def asking(self, name: str, tenant: str = "default", **more: Any) -> httpx.Client:
        """A client with a key of its own."""
        return self.client(self.key(name, tenant, **more))

    def revoke(self, name: str, tenant: str = "default") -> None:
        path = f"/admin/v1/keys/{name}/revoke"
        assert self.admin.post(path, params={"tenant": tenant}).is_success


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The message of a refusal in OpenAI's shape."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    return str(error["message"])


def chat(text: str = "fake:tokens=2", **fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}]} | fields
