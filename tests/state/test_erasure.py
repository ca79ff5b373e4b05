"""An erasure stops what works, destroys everything, and can be run again wherever it ended."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.core.errors import Conflict, NotFound, StorageUnavailable
from serve.state.directory import Directory
from serve.state.erasure import Eraser
from serve.state.folder import Folder
from serve.state.page import Cut
from tests.state.test_custody import Site, site  # noqa: F401 - a fixture

ALL = {
    "responses": 1, "conversations": 1, "chat_completions": 1, "files": 1, "uploads": 1,
    "batches": 1,
}  # fmt: skip


async def test_everything_goes_after_what_works_has_stopped(site: Site) -> None:  # noqa: F811 - see above
    await site.fill()
    other = await site.fill("default")
    order: list[str] = []

    async def stop(tenant: str) -> int:
        order.append(tenant)
        assert await site.responses.get("t", "resp_of_t"), "stopped before anything is gone"
        return 3

    eraser = Eraser(site.directory, site.retention, {"responses": stop})
    erased = await eraser.erase("t")
    assert (erased.objects, erased.stopped, order) == (ALL, {"responses": 3}, ["t"])
    assert site.bytes_there() == {other["file"], other["part"], "batch_of_default"}
    assert (await site.responses.get("default", "resp_of_default")).tenant == "default"
    assert (await Eraser(site.directory, site.retention).erase("t")).objects == {}


async def test_one_that_fails_in_the_middle_is_run_again(
    site: Site,  # noqa: F811 - see above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = await site.fill()
    eraser = Eraser(site.directory, site.retention)
    with monkeypatch.context() as patch:

        def fails(_: Folder, names: Any) -> None:
            for name in names:
                (site.storage.folder.path / name).unlink()
            if names:
                raise StorageUnavailable("the power is gone")

        patch.setattr(Folder, "destroy", fails)
        with pytest.raises(StorageUnavailable):
            await eraser.erase("t")
    assert ids["file"] not in site.bytes_there()
    known = await site.files.page("t", Cut())
    assert [one.id for one in known.files] == [ids["file"]], "what is not done is still known"
    again = (await eraser.erase("t")).objects
    assert {kind: again.get(kind, 0) for kind in ("files", "uploads", "batches")} == {
        "files": 1, "uploads": 1, "batches": 1,
    }  # fmt: skip
    assert site.bytes_there() == set()


async def test_a_hold_that_is_set_meanwhile_ends_it(site: Site) -> None:  # noqa: F811 - see above
    await site.fill()

    async def stop(tenant: str) -> int:
        await site.directory.hold(tenant, "case 7")
        return 0

    with pytest.raises(Conflict, match="legal hold"):
        await Eraser(site.directory, site.retention, {"responses": stop}).erase("t")
    assert (await site.responses.get("t", "resp_of_t")).id == "resp_of_t"


async def test_a_tenant_that_was_removed_can_be_erased_again(site: Site) -> None:  # noqa: F811 - see above
    await site.fill()
    await site.directory.remove_tenant("t")
    eraser = Eraser(site.directory, site.retention)
    assert (await eraser.erase("t")).objects == ALL
    with pytest.raises(NotFound, match="no tenant 'nobody'"):
        await eraser.erase("nobody")


async def test_another_gateway_stops_too(site: Site, tmp_path: Path) -> None:  # noqa: F811 - see above
    stopped = asyncio.Event()

    def stop_of(event: asyncio.Event) -> Callable[[str], Any]:
        async def stop(tenant: str) -> int:
            assert tenant == "t"
            event.set()
            return 1

        return stop

    beside = Directory(site.storage.database, site.clock)
    Eraser(beside, site.retention, {"responses": stop_of(stopped)})
    await beside.refresh()
    await asyncio.sleep(0)
    assert not stopped.is_set()
    await Eraser(site.directory, site.retention).erase("t")
    await beside.refresh()
    async with asyncio.timeout(5):
        await stopped.wait()
    assert beside.erasures_of("t") == 1
