"""Writes of one turn go out together."""

import asyncio
from collections.abc import Callable

from serve.api.cork import GATHER_MAX_BYTES, Cork


class Transport(asyncio.Transport):
    """Keeps what is written; refuses writes once closed, as uvloop's do."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: object) -> None:
        if self.closed:
            raise RuntimeError("the handler is closed")
        assert isinstance(data, bytes)
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def corked(story: Callable[[Cork], None]) -> list[bytes]:
    """What the transport was given by the end of the turn after the story."""
    transport = Transport()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        errors: list[object] = []
        loop.set_exception_handler(lambda _, context: errors.append(context))
        story(Cork(transport, loop))
        await asyncio.sleep(0)
        assert not errors

    asyncio.run(main())
    return transport.written


def test_one_turn_s_writes_are_one() -> None:
    def story(cork: Cork) -> None:
        cork.write(b"head")
        cork.write(b"body")

    assert corked(story) == [b"headbody"]


def test_much_is_written_at_once() -> None:
    def story(cork: Cork) -> None:
        cork.write(b"a")
        cork.write(b"b" * GATHER_MAX_BYTES)
        cork.write(b"c")

    assert corked(story) == [b"a" + b"b" * GATHER_MAX_BYTES, b"c"]


def test_closing_writes_what_is_held_first_and_nothing_after() -> None:
    def story(cork: Cork) -> None:
        cork.write(b"last")
        cork.close()
        cork.write(b"too late")

    assert corked(story) == [b"last"]


def test_a_connection_lost_before_the_turn_ends_is_no_error() -> None:
    def story(cork: Cork) -> None:
        cork.write(b"never sent")
        cork._transport.close()
        assert cork.is_closing()

    assert corked(story) == []
