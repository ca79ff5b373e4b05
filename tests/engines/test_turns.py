import asyncio

from serve.engines.turns import TURN_BUDGET_BYTES, Turns


class Stream:
    def __init__(self, name: int, buffered_bytes: int, resumed: list[int]) -> None:
        self.name = name
        self.buffered_bytes = buffered_bytes
        self._resumed = resumed

    def resume(self) -> None:
        self._resumed.append(self.name)


async def turn() -> None:
    """Let the event loop go round once."""
    await asyncio.sleep(0)


async def test_a_lone_stream_does_not_wait() -> None:
    resumed: list[int] = []
    Turns().wait(Stream(1, 10 * TURN_BUDGET_BYTES, resumed))
    assert resumed == [1]


async def test_a_turn_moves_on_no_more_than_its_budget() -> None:
    resumed: list[int] = []
    turns = Turns()
    for name in range(6):
        turns.wait(Stream(name, TURN_BUDGET_BYTES // 2, resumed))
    seen = [len(resumed)]
    for _ in range(4):
        await turn()
        seen.append(len(resumed))
    assert seen == [2, 4, 6, 6, 6]
    assert resumed == [0, 1, 2, 3, 4, 5]


async def test_one_larger_than_the_budget_still_gets_its_turn() -> None:
    resumed: list[int] = []
    turns = Turns()
    for name in range(3):
        turns.wait(Stream(name, 5 * TURN_BUDGET_BYTES, resumed))
    assert resumed == [0]
    await turn()
    assert resumed == [0, 1]
    await turn()
    assert resumed == [0, 1, 2]


async def test_nobody_overtakes_the_queue() -> None:
    resumed: list[int] = []
    turns = Turns()
    turns.wait(Stream(0, TURN_BUDGET_BYTES, resumed))
    turns.wait(Stream(1, TURN_BUDGET_BYTES, resumed))
    await turn()
    turns.wait(Stream(2, 0, resumed))
    assert resumed == [0, 1]
    await turn()
    assert resumed == [0, 1, 2]


async def test_a_quiet_loop_is_left_in_peace() -> None:
    resumed: list[int] = []
    turns = Turns()
    turns.wait(Stream(0, 1, resumed))
    for _ in range(3):
        await turn()
    assert not asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # asyncio's own queue
    turns.wait(Stream(1, 1, resumed))
    assert resumed == [0, 1]
