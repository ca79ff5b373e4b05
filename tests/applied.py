"""A running gateway whose site is changed under it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import START_TIMEOUT_S, start_gateway

PATIENT = "hang_idle_s: 60, hang_loaded_s: 60"
SITE = """\
site: t
root: .
model_files: models
var_dir: .
engine_defaults: {{kind: fake, {bounds}}}
{more}
models:
  - {{use: fake, aliases: [default]{entry}}}
"""


class Applied:
    """A running gateway, its files and its private socket."""

    ready_timeout_s: float = START_TIMEOUT_S

    def __init__(self, root: Path, more: str = "", entry: str = "", bounds: str = PATIENT) -> None:
        self.root = root
        self.bounds = bounds
        (root / "models").mkdir()
        self.write(more=more, entry=entry)
        self.gateway = start_gateway(
            root, "serve", "--site", str(self.site_file), "--starter-key",
            ready_timeout_s=self.ready_timeout_s,
        )  # fmt: skip
        self.admin = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(root / "run" / "admin.sock")),
            base_url="http://localhost",
            timeout=600,
        )

    @property
    def site_file(self) -> Path:
        return self.root / "site.yaml"

    def write(self, context: int = 1000, more: str = "", entry: str = "") -> None:
        (self.root / "models" / "fake.yaml").write_text(
            f"name: fake\nsource: {{path: none}}\ncontext_tokens: {context}\n"
        )
        self.site_file.write_text(
            SITE.format(bounds=self.bounds, more=more, entry=f", {entry}" if entry else "")
        )

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.gateway.key}"}
        return httpx.AsyncClient(base_url=self.gateway.url, headers=headers, timeout=30)

    def close(self) -> None:
        self.admin.close()
        assert self.gateway.stop() == 0

    def apply(self) -> list[dict[str, Any]]:
        """The events, once nothing else is being applied."""
        self.until(lambda: self.admin.get("/admin/v1/release").json()["applying"] is None)
        answer = self.admin.post("/admin/v1/apply", json={"site_file": str(self.site_file)})
        return [json.loads(line) for line in answer.text.splitlines()]

    def context(self) -> int:
        (one, *_) = self.gateway.client.get("/v1/models").json()["data"]
        return int(one["inhouse"]["context_tokens"])

    def until(self, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        lines = (self.root / "stderr.txt").read_text().splitlines(keepends=True)
        return "".join(line for line in lines if "inhouse.request" not in line)[-8000:]
