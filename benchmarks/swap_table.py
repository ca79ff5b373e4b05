"""The table of `benchmarks/swap.py` in docs/engines.md, from its record."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks.record import short

NAMES: Final = {
    "restart": "stop vLLM's own server, start it with the new model",
    "swap": "swap, with a standby",
    "fresh": "swap, without one",
    "compiled": "swap to a compiled model, with a standby",
}
ARM_OF_BASE: Final = "restart"


def table(document: Mapping[str, Any]) -> str:
    """One row for each way that was measured: seconds, and their part of a restart."""
    return "\n".join(
        ["| | first token after | of a restart |", "| --- | ---: | ---: |", *_rows(document)]
    )


def _rows(document: Mapping[str, Any]) -> Iterator[str]:
    figures = {one["name"]: one for one in document["figures"]}
    for arm, title in NAMES.items():
        took = figures.get(f"{arm}_first_token")
        if took is None:
            continue
        part = figures.get(f"{arm}_over_{ARM_OF_BASE}")
        told = "1" if arm == ARM_OF_BASE else _cell(part, "") if part else "n/a"
        yield f"| {title} | {_cell(took, ' s')} | {told} |"


def _cell(figure: Mapping[str, Any], unit: str) -> str:
    """The median, and the lowest and the highest round."""
    spread = f"{short(figure['low'])}–{short(figure['high'])}"  # noqa: RUF001
    return f"{short(figure['value'])}{unit} ({spread})"
