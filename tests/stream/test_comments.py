"""Signs of life while there is nothing to say."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from serve.stream.comments import EVERY_S, FIRST_AFTER_S, Comments
from tests.engines.machine import run_virtually


class Reader:
    """A sink; writing to a slow one takes its time."""

    def __init__(self, slow_s: float = 0.0) -> None:
        self.slow_s = slow_s
        self.said: list[tuple[float, bytes]] = []
        self.started = self.produced = False

    async def write(self, frames: bytes) -> None:
        raise AssertionError("a comment is no frame")

    async def comment(self, frames: bytes) -> None:
        await asyncio.sleep(self.slow_s)
        self.said.append((asyncio.get_running_loop().time(), frames))


def waiting(seconds: float, reader: Reader) -> Coroutine[Any, Any, None]:
    async def story() -> None:
        comments = Comments(reader, lambda waited_s: f"loading\nm, {waited_s:.0f} s")
        await asyncio.sleep(seconds)
        await comments.end()
        said = len(reader.said)
        await asyncio.sleep(100)
        assert len(reader.said) == said, "nothing after the end"

    return story()


def test_a_short_wait_says_nothing() -> None:
    reader = Reader()
    run_virtually(waiting(FIRST_AFTER_S - 0.1, reader))
    assert reader.said == []


def test_a_long_wait_tells_how_long_it_is() -> None:
    reader = Reader()
    run_virtually(waiting(FIRST_AFTER_S + 2 * EVERY_S + 1, reader))
    assert reader.said == [
        (3.0, b": loading m, 3 s\n\n"),
        (8.0, b": loading m, 8 s\n\n"),
        (13.0, b": loading m, 13 s\n\n"),
    ]


def test_what_is_being_written_is_written_to_its_end() -> None:
    reader = Reader(slow_s=20)
    run_virtually(waiting(FIRST_AFTER_S + 1, reader))
    assert [at_s for at_s, _ in reader.said] == [23.0]


def test_a_slow_reader_is_not_written_to_twice_at_once() -> None:
    reader = Reader(slow_s=7)
    run_virtually(waiting(16, reader))
    assert [at_s for at_s, _ in reader.said] == [10.0, 20.0]


def test_a_reader_that_fails_is_heard_of() -> None:
    class Gone(Reader):
        async def comment(self, frames: bytes) -> None:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run_virtually(waiting(5, Gone()))
