"""What `inhouse status` shows."""

from typing import Any

import pytest
from rich.console import Console

from serve.cli.table import COLUMNS, memory_of, notes, plain, rich_table, rows, span, state_of

NOW_S = 1_000_000.0


def model(**fields: Any) -> dict[str, Any]:
    return {
        "id": "small", "state": "ready", "pinned": False, "since": NOW_S - 90,
        "engines": [{"state": "ready"}],
        "memory_bytes": {"host": 3 * 2**29}, "memory_measured": True, "running": 3, "waiting": 2,
        "tokens_per_s": {"prompt": 120.4, "generated": 33.3}, "cache_hit_ratio": 0.256,
        "kv_use": 0.5, "last_swap_s": 12.34, "restarts": 1, "order": None,
        "next_start_in_s": None, "last_error": None,
    } | fields  # fmt: skip


ASLEEP = model(
    id="large", state="sleeping", pinned=True, memory_bytes={}, running=None, waiting=0,
    tokens_per_s={"prompt": None, "generated": None}, cache_hit_ratio=None, kv_use=None,
    last_swap_s=None, restarts=0,
)  # fmt: skip


def answer(*models: dict[str, Any]) -> dict[str, Any]:
    memory = {"capacity_bytes": {"host": 2**34}, "held_bytes": {"host": 2**30}}
    return {"data": list(models), "memory": memory, "draining": False}


def test_a_row_has_a_cell_for_each_column() -> None:
    (busy, asleep) = rows([model(), ASLEEP], NOW_S)
    assert busy == (
        "small", "ready", "90 s", "1.5 GiB", "3", "2", "120", "33", "26%", "50%", "12.3 s", "1",
    )  # fmt: skip
    assert asleep == (
        "large", "sleeping, pinned", "90 s", "-", "-", "0", "-", "-", "-", "-", "-", "0",
    )  # fmt: skip
    assert len(busy) == len(COLUMNS)


def test_of_several_engines_it_says_how_many() -> None:
    engines = [{"state": "ready"}, {"state": "ready"}, {"state": "failed"}]
    assert state_of(model(engines=engines)) == "ready 2/3"
    assert state_of(model(engines=engines, pinned=True)) == "ready 2/3, pinned"


def test_plain_lines_are_aligned() -> None:
    head, first, second, _ = plain(answer(model(), ASLEEP), NOW_S).splitlines()
    assert head.startswith("model  state")
    assert first.index("ready") == second.index("sleeping") == head.index("state")
    assert len(first) == len(second) == len(head)


def test_a_terminal_gets_the_same_cells() -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(rich_table(answer(model(), ASLEEP), NOW_S))
    shown = capture.get()
    for cells in rows([model(), ASLEEP], NOW_S):
        assert all(cell in shown for cell in cells)


def test_notes_say_what_is_wrong_and_what_is_being_done() -> None:
    broken = model(
        state="starting", last_error="CUDA out of memory", next_start_in_s=7.6,
        order={"kind": "restart", "since": NOW_S},
    )  # fmt: skip
    assert notes([broken]) == [
        "small: restart is under way",
        "small: starts again in 8 s",
        "small: last error: CUDA out of memory",
    ]
    assert notes([model(last_error="long past")]) == []


def test_the_memory_that_is_shared_and_a_stopping_server_are_told() -> None:
    told = answer(model()) | {"draining": True}
    *_, memory, stopping = plain(told, NOW_S).splitlines()
    assert memory == "memory: host 1.0 GiB of 16.0 GiB"
    assert "stopping" in stopping


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0, "0 s"), (119, "119 s"), (121, "2 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("held", "measured", "text"),
    [
        ({}, True, "-"),
        ({"host": 0}, False, "-"),
        ({"host": 5 * 2**20}, True, "5 MiB"),
        ({"host": 2**30}, False, "~1.0 GiB"),
        ({"host": 2**40, "gpu0": 2**34, "gpu1": 2**34}, True, "32.0 GiB"),
    ],
)
def test_memory(held: dict[str, int], measured: bool, text: str) -> None:
    assert memory_of(model(memory_bytes=held, memory_measured=measured)) == text
