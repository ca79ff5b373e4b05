"""An erasure that is killed in the middle is run again, and ends whole."""

import threading
from contextlib import suppress
from pathlib import Path

import httpx

from tests.conftest import start_gateway
from tests.http.tenancy import admin_of, started

FILES = 150


def test_a_server_that_is_killed_while_it_erases(tmp_path: Path) -> None:
    before = started(tmp_path)
    for number in range(FILES):
        sent = before.client.post(
            "/v1/files", data={"purpose": "user_data"}, files={"file": b"%d" % number}
        )
        assert sent.status_code == 200
    folder = tmp_path / "files"
    assert len(list(folder.iterdir())) == FILES

    def erase() -> None:
        with suppress(httpx.TransportError), admin_of(before) as admin:
            admin.post("/admin/v1/tenants/default/erase")

    erasing = threading.Thread(target=erase)
    erasing.start()
    while len(list(folder.iterdir())) == FILES:
        assert erasing.is_alive()
    before.process.kill()
    before.process.wait()
    before.client.close()
    erasing.join()

    after = start_gateway(tmp_path, "serve", "--site", str(tmp_path / "site.yaml"), "--starter-key")
    try:
        known = {one["id"] for one in after.client.get("/v1/files").json()["data"]}
        there = {path.name for path in folder.iterdir()}
        assert there <= known, "no bytes that nobody knows of"
        with admin_of(after) as admin:
            erased = admin.post("/admin/v1/tenants/default/erase").json()["erased"]
        assert erased["files"] == len(known)
        assert after.client.get("/v1/files").json()["data"] == []
        assert list(folder.iterdir()) == []
    finally:
        assert after.stop() == 0
