"""The file watch: what counts as a change, and when it is applied."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from serve.release.watch import Watch, differ, look

PERIOD_S = 0.02


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Applied:
    """A watch over two files, and what they were when it applied them."""

    def __init__(self, root: Path) -> None:
        self.files = (root / "site.yaml", root / "model.yaml")
        for path in self.files:
            path.write_text("1")
        self.every_s: float | None = PERIOD_S
        self.running: Mapping[Path, str | None] = dict.fromkeys(self.files, digest("1"))
        self.seen: list[str] = []
        self.task = asyncio.create_task(
            Watch(lambda: self.running, lambda: self.every_s, self.apply).run()
        )

    async def apply(self) -> None:
        self.seen.append(" ".join(p.read_text() if p.exists() else "-" for p in self.files))

    async def periods(self, count: int) -> None:
        await asyncio.sleep(count * PERIOD_S)

    async def until_seen(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.seen) < count:  # noqa: ASYNC110 - a few looks at most
                await asyncio.sleep(PERIOD_S / 4)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Applied]:
    applied = Applied(tmp_path)
    await applied.periods(3)
    yield applied
    applied.task.cancel()


async def test_a_change_that_lasts_is_applied_once(watched: Applied) -> None:
    watched.files[1].write_text("2")
    await watched.until_seen(1)
    await watched.periods(5)
    assert watched.seen == ["1 2"]


async def test_a_file_that_is_still_being_written_is_not(watched: Applied) -> None:
    async with asyncio.timeout(5):
        for size in range(40):
            watched.files[0].write_text("2" * (size + 2))
            await asyncio.sleep(PERIOD_S / 4)
    assert watched.seen == []
    await watched.until_seen(1)
    assert watched.seen == ["2" * 41 + " 1"]


async def test_the_time_alone_is_no_change(watched: Applied) -> None:
    os.utime(watched.files[0], (1, 1))
    await watched.periods(5)
    assert watched.seen == []


async def test_a_file_that_goes_is_a_change(watched: Applied) -> None:
    watched.files[1].unlink()
    await watched.until_seen(1)
    assert watched.seen == ["1 -"]


async def test_a_change_from_before_the_watch_is_applied_with_it(tmp_path: Path) -> None:
    applied = Applied(tmp_path)
    applied.files[0].write_text("2")
    await applied.until_seen(1)
    applied.task.cancel()
    assert applied.seen == ["2 1"]


async def test_nothing_is_applied_while_nobody_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.release.watch.IDLE_S", PERIOD_S)
    applied = Applied(tmp_path)
    applied.every_s = None
    await applied.periods(3)
    applied.files[0].write_text("2")
    await applied.periods(5)
    assert applied.seen == []
    applied.running = {applied.files[0]: digest("2"), applied.files[1]: None}
    applied.every_s = PERIOD_S
    await applied.periods(5)
    applied.task.cancel()
    assert applied.seen == []


def test_a_look_reads_only_what_may_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    first = look([path], {})
    assert look([path], first)[path] is first[path]
    path.write_text("22")
    assert differ(look([path], first), first)
