"""A report as one HTML page with its plots in it: nothing is loaded from anywhere."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from serve.metering.report import Report, money
from serve.metering.sheets import amount, comparison, percent, table

SERIES_MAX: Final = 7
"""Names with a colour of their own in a plot; the others are one."""
_COLOURS: Final = (
    "#3b6ea5", "#c4762b", "#4c956c", "#a14a76", "#7a6cc0", "#b0a12f", "#3f9c9c", "#888888",
)  # fmt: skip
_WIDTH: Final = 900
_HEIGHT: Final = 220
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:960px;padding:0 1rem;
color:#222;background:#fff}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.87rem}
td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd}
td.n,th.n{text-align:left}tr.t td{font-weight:600;border-top:2px solid #888}
svg{width:100%;height:auto}.k span{display:inline-block;margin-right:1rem}
.k i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}.w{overflow-x:auto}
p.s{color:#555;font-size:.87rem}
"""

Point = tuple[str, str, int]
"""Day, name, tokens."""


def page(report: Report, tokens: Iterable[Point], tenants: Report) -> str:
    """The page. `tokens` by day and tenant, and the report by `tenants`, are for the plots."""
    parts = [
        f"<h1>Usage, {report.first} to {report.last}</h1>",
        f"<p>{report.total.requests:,} requests, {report.total.prompt:,} tokens in "
        f"({percent(report.total.hit_ratio)} from the cache), {report.total.completion:,} tokens "
        "out. Days are UTC.</p>",
        *_plots(report, list(tokens), tenants),
        f"<h2>By {escape(', '.join(report.by))}</h2>",
        _table(report),
        *_elsewhere(report),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Usage, {report.first} to {report.last}</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _plots(report: Report, tokens: Sequence[Point], tenants: Report) -> Iterable[str]:
    if not tokens:
        yield "<p>No request ended in this time.</p>"
        return
    yield "<h2>Tokens a day, by tenant</h2>" + _stacked(tokens)
    yield "<h2>Prompts found in the cache, by tenant</h2>"
    yield _bars(
        [(name, sums.hit_ratio or 0.0, percent(sums.hit_ratio)) for (name,), sums in tenants.lines],
        1.0,
    )
    if report.currency is not None:
        costs = [(name, money(sums.cost_nano), sums) for (name,), sums in tenants.lines]
        most = float(max(cost for _, cost, _ in costs)) or 1.0
        yield f"<h2>Cost in {report.currency}, by tenant, and what the cache saved</h2>"
        yield _bars(
            [
                (name, float(cost), f"{amount(cost)}, saved {amount(money(sums.saved_nano))}")
                for name, cost, sums in costs
            ],
            most,
        )


def _stacked(tokens: Sequence[Point]) -> str:
    """Columns by day, in the colours of who used most."""
    sums: dict[str, int] = {}
    for _, name, count in tokens:
        sums[name] = sums.get(name, 0) + count
    ranked = sorted(sums, key=lambda name: (-sums[name], name))
    place = {name: min(index, SERIES_MAX) for index, name in enumerate(ranked)}
    days = sorted({day for day, _, _ in tokens})
    columns: dict[str, list[int]] = {day: [0] * (SERIES_MAX + 1) for day in days}
    for day, name, count in tokens:
        columns[day][place[name]] += count
    most = max(map(sum, columns.values())) or 1
    step = _WIDTH / len(days)
    names = [*ranked[:SERIES_MAX], *(["others"] if len(ranked) > SERIES_MAX else [])]
    shapes = []
    for index, day in enumerate(days):
        top = float(_HEIGHT)
        for colour, count in enumerate(columns[day]):
            height = count / most * _HEIGHT
            top -= height
            if count:
                shapes.append(
                    f'<rect x="{index * step + step * 0.1:.1f}" y="{top:.1f}" '
                    f'width="{step * 0.8:.1f}" height="{height:.1f}" fill="{_COLOURS[colour]}">'
                    f"<title>{day}, {escape(names[colour])}: {count:,} tokens</title></rect>"
                )
    ends = f'<text x="0" y="{_HEIGHT + 16}">{days[0]}</text>'
    if len(days) > 1:
        ends += f'<text x="{_WIDTH}" y="{_HEIGHT + 16}" text-anchor="end">{days[-1]}</text>'
    key = "".join(
        f'<span><i style="background:{_COLOURS[index]}"></i>{escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return (
        f'<p class="s">The tallest column: {most:,} tokens.</p>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" font-size="12">'
        f'{"".join(shapes)}<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}" '
        f'stroke="#888"/>{ends}</svg><p class="k">{key}</p>'
    )


def _bars(rows: Sequence[tuple[str, float, str]], most: float) -> str:
    """A bar for each name, with what it stands for in words."""
    height, left, right = 24, 200, 220
    wide = _WIDTH - left - right
    shapes = []
    for index, (name, value, words) in enumerate(rows):
        y = index * height
        width = max(0.0, value / most * wide)
        shapes.append(
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(name[:28])}</text>'
            f'<rect x="{left}" y="{y + 4}" width="{width:.1f}" height="{height - 8}" '
            f'fill="{_COLOURS[0]}"/><text x="{left + width + 6:.1f}" y="{y + 16}">'
            f"{escape(words)}</text>"
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {max(1, len(rows)) * height}" role="img" font-size="13">'
        f"{''.join(shapes)}</svg>"
    )


def _table(report: Report) -> str:
    titles, *rows = table(report)
    wide = len(report.by)
    lines = ["".join(_cell("th", index < wide, cell) for index, cell in enumerate(titles))]
    lines += [
        "".join(_cell("td", index < wide, cell) for index, cell in enumerate(row)) for row in rows
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines[:-1])
    return f'<div class="w"><table>{body}<tr class="t">{lines[-1]}</tr></table></div>'


def _cell(tag: str, name: bool, text: str) -> str:
    return f"<{tag}{' class=n' if name else ''}>{escape(text)}</{tag}>"


def _elsewhere(report: Report) -> Iterable[str]:
    if report.hosted is None:
        return
    yield "<h2>What the same tokens would have cost at the hosted API</h2>"
    _, *lines = comparison(report)
    yield f"<p>{escape(report.hosted.title)}.</p><ul>"
    yield "".join(f"<li>{escape(line.strip())}</li>" for line in lines)
    yield "</ul><p class=s>Other models count and cache tokens otherwise; this is their price of "
    yield "these counts, not a bill.</p>"
