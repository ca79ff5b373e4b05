"""The table of `benchmarks/gateway.py`: for a terminal, and as markdown from the record."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson
from rich.table import Table

from benchmarks.record import Record, short

NAMES: Final = {
    "direct": "the backend itself",
    "inhouse": "Inhouse",
    "router": "vllm-router",
    "litellm": "LiteLLM proxy",
}
COLUMNS: Final = (
    ("added TTFT p50, 1 stream (ms)", "ttft_1", "added_p50_ms"),
    ("32 streams (ms)", "ttft_32", "added_p50_ms"),
    ("32 at once (ms)", "ttft_32_burst", "added_p50_ms"),
    ("32 unpaced (ms)", "ttft_32_full", "added_p50_ms"),
    ("CPU a paced chunk (µs)", "paced_chunks", "cpu_us"),
    ("requests/s a core", "unstreamed", "per_s"),
    ("CPU a request (µs)", "unstreamed", "cpu_us"),
    ("chunks/s a core", "streamed", "per_s"),
    ("CPU a chunk (µs)", "streamed", "cpu_us"),
)
TTFT: Final = "p50_ms"


def rows(document: dict[str, Any]) -> list[list[str]]:
    """One row a contestant: name, then a cell a column with its spread over the rounds."""
    figures = {one["name"]: one for one in document["figures"]}
    why = dict(remark.split(": ", 1) for remark in document["remarks"] if ": " in remark)
    table = []
    for name, title in NAMES.items():
        cells = [_cell(figures, document["raw"], name, *column[1:]) for column in COLUMNS]
        if name in why and not any(cells):
            cells[0] = why[name]
        table.append([title, *(cell or "–" for cell in cells)])  # noqa: RUF001
    return table


def _cell(
    figures: dict[str, Any], raw: dict[str, Any], name: str, scenario: str, quantity: str
) -> str:
    if name == "direct" and quantity == "added_p50_ms":
        quantity = TTFT
    figure = figures.get(f"{scenario}/{name}/{quantity}")
    if figure is None:
        return ""
    spread = f"{short(figure['low'])}–{short(figure['high'])}"  # noqa: RUF001
    text = f"{short(figure['value'])} ({spread})"
    if name == "direct" and quantity == TTFT:
        return f"[{text} in all]"
    doubtful = any(one["doubt"] for one in raw[f"{scenario}/{name}"])
    # What bounds the rate does not touch the CPU time of one request.
    return f"≥ {text}, client-bound" if doubtful and quantity == "per_s" else text


def shown(record: Record) -> Table:
    """For a terminal: contestants across, so that it fits one."""
    table = Table(title="gateway cost: median (lowest to highest round)")
    body = rows(orjson.loads(orjson.dumps(record.document())))
    table.add_column("")
    for row in body:
        table.add_column(row[0], justify="right")
    for place, (title, *_) in enumerate(COLUMNS, start=1):
        table.add_row(title, *(row[place].replace("[", "\\[") for row in body))
    return table


def markdown(path: Path) -> str:
    """The record at `path`, for reading."""
    document = orjson.loads(path.read_bytes())
    machine, commit = document["machine"], document["commit"]
    lines = [
        "# What the gateway costs",
        "",
        f"Made from `{path.name}` by `python -m benchmarks.gateway`; what each column means is in "
        "[../README.md](../README.md). Median of "
        f"{document['settings']['rounds']} alternating rounds (lowest–highest).",  # noqa: RUF001
        "",
        *_markdown_table(["", *(title for title, *_ in COLUMNS)], rows(document)),
        "",
        "| bound | limit | measured | verdict |",
        "| --- | ---: | ---: | --- |",
        *(_verdict_row(one, document) for one in document["verdicts"]),
        "",
        f"`{document['closing_line']}`",
        "",
        *(f"- {remark}" for remark in document["remarks"]),
        f"- {document['date']}, commit {commit['id'] or 'none'}"
        + (" with changes" if commit["with_changes"] else ""),
        f"- {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux "
        f"{machine['kernel']}, Python {machine['python']}",
        "- " + ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
        "",
    ]
    return "\n".join(lines)


def _verdict_row(verdict: dict[str, Any], document: dict[str, Any]) -> str:
    figure = next((one for one in document["figures"] if one["name"] == verdict["figure"]), None)
    limit = "n/a" if verdict["limit"] is None else short(verdict["limit"])
    measured = "n/a"
    if figure:
        spread = f"{short(figure['low'])}–{short(figure['high'])}"  # noqa: RUF001
        measured = f"{short(figure['value'])} ({spread})"
    note = f" ({verdict['note']})" if verdict["note"] else ""
    sign = "≥" if verdict["relation"] == ">=" else "≤"
    return (
        f"| {verdict['name']}, {verdict['unit']} | {sign} {limit} | {measured} "
        f"| {verdict['verdict']}{note} |"
    )


def _markdown_table(head: list[str], body: Iterable[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 1)}",
        *(f"| {' | '.join(row)} |" for row in body),
    ]
