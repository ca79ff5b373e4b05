"""The rows of `inhouse status`, from what the server tells."""

import re
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

JSON = dict[str, Any]

COLUMNS: Final = (
    "model", "state", "for", "memory", "running", "waiting", "tok/s in", "tok/s out",
    "cache hits", "KV used", "last swap", "restarts",
)  # fmt: skip
LEFT: Final = ("model", "state")
STYLES: Final = {"ready": "green", "failed": "red", "starting": "yellow", "sleeping": "blue"}
NOTHING: Final = "-"


def rows(models: list[JSON], now_s: float | None = None) -> list[tuple[str, ...]]:
    """A row for each model; `now_s` is Unix time."""
    now_s = time.time() if now_s is None else now_s
    return [_row(one, now_s) for one in models]


def notes(models: list[JSON]) -> list[str]:
    """What does not fit a column: orders under way, errors, restarts to come."""
    said = []
    for one in models:
        if one["order"] is not None:
            said.append(f"{one['id']}: {one['order']['kind']} is under way")
        if one["next_start_in_s"] is not None:
            said.append(f"{one['id']}: starts again in {one['next_start_in_s']:.0f} s")
        if one["last_error"] and one["state"] != "ready":
            said.append(f"{one['id']}: last error: {one['last_error']}")
    return said


def plain(answer: JSON, now_s: float | None = None) -> str:
    """The table as text, for what is not a terminal."""
    table = [COLUMNS, *rows(answer["data"], now_s)]
    return "\n".join([*aligned(table, LEFT), *footer(answer)])


def aligned(table: Sequence[Sequence[str]], left: Collection[str]) -> list[str]:
    """Lines of equal columns under the first row's titles; those not in `left` end together."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if title in left else cell.rjust(width)
            for cell, width, title in zip(row, widths, table[0], strict=True)
        ).rstrip()
        for row in table
    ]


def rich_table(answer: JSON, now_s: float | None = None) -> Table:
    """The table for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=True)
    for cells in rows(answer["data"], now_s):
        name, state, *rest = cells
        word = re.split(r"[ ,]", state)[0]
        table.add_row(name, Text(state, STYLES.get(word, "")), *rest)
    return table


def footer(answer: JSON) -> list[str]:
    """Lines below the table: the memory that is shared, and the notes."""
    lines = [memory_line(answer["memory"])]
    if answer["draining"]:
        lines.append("the server is stopping: it takes no new requests")
    return lines + notes(answer["data"])


def memory_line(memory: JSON) -> str:
    """What models take of the memory that they may take."""
    held, capacity = memory["held_bytes"], memory["capacity_bytes"]
    pools = [f"{name} {size(held.get(name, 0))} of {size(all_)}" for name, all_ in capacity.items()]
    return f"memory: {', '.join(pools)}"


def memory_of(one: JSON) -> str:
    """What a model takes of the devices, or of the machine where it has none; `~`: by estimate."""
    pools = {pool: count for pool, count in one["memory_bytes"].items() if count}
    devices = [count for pool, count in pools.items() if pool != "host"]
    total = sum(devices) if devices else sum(pools.values())
    if not total:
        return NOTHING
    return size(total) if one["memory_measured"] else f"~{size(total)}"


def size(count: int) -> str:
    """Bytes for a person."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _row(one: JSON, now_s: float) -> tuple[str, ...]:
    rate = one["tokens_per_s"]
    return (
        one["id"],
        state_of(one),
        span(now_s - one["since"]),
        memory_of(one),
        _count(one["running"]),
        _count(one["waiting"]),
        NOTHING if rate["prompt"] is None else f"{rate['prompt']:.0f}",
        NOTHING if rate["generated"] is None else f"{rate['generated']:.0f}",
        _share(one["cache_hit_ratio"]),
        _share(one["kv_use"]),
        NOTHING if one["last_swap_s"] is None else f"{one['last_swap_s']:.1f} s",
        str(one["restarts"]),
    )


def span(seconds: float) -> str:
    """A duration for a person, in its greatest whole unit."""
    for unit, size_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size_s:
            return f"{seconds // size_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def state_of(one: JSON) -> str:
    """In a word; how many of its engines are in that state, where there are several."""
    state: str = one["state"]
    if len(engines := one["engines"]) > 1:
        there = sum(each["state"] == state for each in engines)
        return f"{state} {there}/{len(engines)}" + (", pinned" if one["pinned"] else "")
    return f"{state}, pinned" if one["pinned"] else state


def _count(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"
