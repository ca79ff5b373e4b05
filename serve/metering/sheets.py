"""A report as text: for a terminal, a spreadsheet, a program."""

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from serve.metering.report import Report, Sums, money

JSON = dict[str, Any]


def table(report: Report) -> list[tuple[str, ...]]:
    """Titles, a row for each line, and the total; figures for a person."""
    titles = [*report.by, "requests", "in", "cached", "hit", "out", "reasoning"]
    if report.currency is not None:
        titles += [f"cost {report.currency}", f"saved {report.currency}", "unpriced"]
    rows = [tuple(titles)]
    everything = (*report.lines, (("total", *("",) * (len(report.by) - 1)), report.total))
    for names, sums in everything:
        cells = [*names, *_counts(sums)]
        if report.currency is not None:
            cells += [amount(money(sums.cost_nano)), amount(money(sums.saved_nano))]
            cells.append(str(sums.unpriced))
        rows.append(tuple(cells))
    return rows


def comparison(report: Report) -> Iterator[str]:
    """What the total would have cost elsewhere, a line for each model there."""
    hosted = report.hosted
    if hosted is None:
        return
    yield f"the same tokens at: {hosted.title}"
    for name, cost in report.elsewhere(report.total).items():
        price = hosted.models[name]
        yield (
            f"  {name}: {hosted.currency} {amount(cost)} (price of {price.as_of.isoformat()}, "
            f"{price.source})"
        )


def as_csv(report: Report) -> str:
    """Whole figures; money as decimals. A total is the reader's to make."""
    hosted = report.hosted
    elsewhere = [] if hosted is None else [f"{name} {hosted.currency}" for name in hosted.models]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*report.by, *_NAMES, *elsewhere])
    for names, sums in report.lines:
        costs = [f"{cost:f}" for cost in report.elsewhere(sums).values()]
        writer.writerow([*map(_harmless, names), *_document(sums, report).values(), *costs])
    return out.getvalue()


def as_json(report: Report) -> JSON:
    """Everything, with money as decimals in text."""
    hosted = report.hosted
    return {
        "from": report.first.isoformat(),
        "to": report.last.isoformat(),
        "by": list(report.by),
        "currency": report.currency,
        "data": [
            dict(zip(report.by, names, strict=True)) | _whole(sums, report)
            for names, sums in report.lines
        ],
        "total": _whole(report.total, report),
        "hosted": None if hosted is None else hosted.model_dump(mode="json"),
    }


def amount(cost: Decimal) -> str:
    """Money for a person: cents, or enough digits where it is less than a few of them."""
    return f"{cost:,.2f}" if cost >= 1 or not cost else f"{cost:.6f}"


def percent(ratio: float | None) -> str:
    """A part of a whole for a person."""
    return "-" if ratio is None else f"{ratio:.1%}"


_NAMES = (
    "requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens",
    "cache_hit_ratio", "cost", "saved_by_cache", "unpriced_requests",
)  # fmt: skip


def _counts(sums: Sums) -> Iterator[str]:
    yield f"{sums.requests:,}"
    yield f"{sums.prompt:,}"
    yield f"{sums.cached:,}"
    yield percent(sums.hit_ratio)
    yield f"{sums.completion:,}"
    yield f"{sums.reasoning:,}"


def _document(sums: Sums, report: Report) -> JSON:
    priced = report.currency is not None
    values = (
        sums.requests, sums.prompt, sums.cached, sums.completion, sums.reasoning,
        None if sums.hit_ratio is None else round(sums.hit_ratio, 6),
        f"{money(sums.cost_nano):f}" if priced else None,
        f"{money(sums.saved_nano):f}" if priced else None,
        sums.unpriced,
    )  # fmt: skip
    return dict(zip(_NAMES, values, strict=True))


def _whole(sums: Sums, report: Report) -> JSON:
    there = {name: f"{cost:f}" for name, cost in report.elsewhere(sums).items()}
    return _document(sums, report) | {"hosted": there}


def _harmless(name: str) -> str:
    """A name that a spreadsheet would take for a formula is marked as text."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name
