"""Reports: sums that are exact, in every form that they are written in."""

import csv
import html.parser
import io
import json

from serve.metering.page import page
from serve.metering.report import date_of, needed, report_of
from serve.metering.sheets import as_csv, as_json, comparison, table
from serve.settings.hosted import Hosted
from serve.settings.prices import Price, Prices, Pricing

DAY = 20_000
PRICING = Pricing(
    Prices(
        currency="EUR",
        models={"m": (Price.model_validate({"input": 1, "cached_input": "0.1", "output": 4}),)},
    )
)
HOSTED = Hosted.model_validate(
    {
        "currency": "USD",
        "title": "Elsewhere",
        "models": {
            "big": {
                "input": "2", "cached_input": "0.2", "output": "10", "as_of": "2026-09-22",
                "source": "https://example.org/prices",
            }
        },
    }
)  # fmt: skip


def row(tenant: str, model: str, day: int, **counts: int) -> dict[str, object]:
    zero = dict.fromkeys(
        ("requests", "prompt", "cached", "completion", "reasoning", "cost_nano", "unpriced"), 0
    )
    return {"tenant": tenant, "model": model, "day": DAY + day} | zero | counts


ROWS = [
    row("acme", "m", 0, requests=2, prompt=1000, cached=400, completion=50, cost_nano=840_000),
    row("acme", "m", 1, requests=1, prompt=10, completion=5, reasoning=2, cost_nano=30_000),
    row("acme", "n", 1, requests=1, prompt=7, completion=1, unpriced=1),
    row("<b>&=evil", "m", 1, requests=3, prompt=100, cached=100, completion=1, cost_nano=14_000),
]


def test_days_and_models_are_summed_for_who_asks_by_tenant_alone() -> None:
    report = report_of(ROWS, ("tenant",), (DAY, DAY + 1), PRICING)
    assert needed(("tenant",)) == ("tenant", "model", "day")
    (evil, evils), (acme, sums) = report.lines
    assert (acme, sums.requests, sums.prompt, sums.completion) == (("acme",), 4, 1017, 56)
    assert (sums.cost_nano, sums.saved_nano, sums.unpriced) == (870_000, 400 * 900, 1)
    assert (evil, evils.hit_ratio) == (("<b>&=evil",), 1.0)
    assert report.total.cost_nano == 884_000


def test_what_it_would_have_cost_elsewhere_is_dated_and_sourced() -> None:
    report = report_of(ROWS, ("tenant",), (DAY, DAY + 1), PRICING, HOSTED)
    nano = (1117 - 500) * 2000 + 500 * 200 + 57 * 10_000
    assert report.elsewhere(report.total)["big"] * 10**9 == nano
    _, line = comparison(report)
    assert "2026-09-22" in line
    assert "https://example.org/prices" in line


def test_the_table_ends_in_a_total() -> None:
    titles, *_, total = table(report_of(ROWS, ("model", "day"), (DAY, DAY + 1), PRICING))
    assert titles[:3] == ("model", "day", "requests")
    assert total[:3] == ("total", "", "7")
    assert "cost EUR" in titles
    unpriced = table(report_of(ROWS, ("model",), (DAY, DAY + 1), Pricing(Prices())))
    assert not any("cost" in title for title in unpriced[0])


def test_csv_is_exact_and_no_cell_is_a_formula() -> None:
    rows = [*ROWS, row("=cmd()", "m", 0, requests=1, prompt=1, cost_nano=1)]
    report = report_of(rows, ("tenant", "day"), (DAY, DAY + 1), PRICING, HOSTED)
    titles, *lines = list(csv.reader(io.StringIO(as_csv(report))))
    found = [dict(zip(titles, line, strict=True)) for line in lines]
    acme = next(one for one in found if one["tenant"] == "acme")
    assert acme["day"] == date_of(DAY).isoformat()
    assert (acme["cost"], acme["saved_by_cache"]) == ("0.00084", "0.00036")
    assert acme["cache_hit_ratio"] == "0.4"
    assert any(one["cost"] == "0.000000001" for one in found)
    assert not any(one["tenant"].startswith("=") for one in found)


def test_json_has_lines_total_and_the_table_it_compares_with() -> None:
    document = as_json(report_of(ROWS, ("model",), (DAY, DAY + 1), PRICING, HOSTED))
    document = json.loads(json.dumps(document))
    assert [one["model"] for one in document["data"]] == ["m", "n"]
    assert document["total"]["input_tokens"] == 1117
    assert document["total"]["cost"] == "0.000884"
    assert document["hosted"]["models"]["big"]["as_of"] == "2026-09-22"
    assert document["data"][0]["hosted"]["big"]


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href")]


def test_the_page_has_its_plots_in_it_and_loads_nothing() -> None:
    report = report_of(ROWS, ("tenant", "model", "day"), (DAY, DAY + 1), PRICING, HOSTED)
    tenants = report_of(ROWS, ("tenant",), (DAY, DAY + 1), PRICING)
    points = [("2024-10-04", "acme", 1050), ("2024-10-05", "<b>&=evil", 101)]
    text = page(report, points, tenants)
    tags = _Tags()
    tags.feed(text)
    assert tags.names.count("svg") == 3
    assert tags.names.count("rect") >= 4
    assert not tags.loads
    assert "script" not in tags.names
    assert "b" not in tags.names  # a tenant's name is text
    assert "https://example.org/prices" in text


def test_a_page_of_nothing_says_so() -> None:
    report = report_of([], ("tenant",), (DAY, DAY), PRICING)
    assert "No request ended" in page(report, [], report)


def test_more_tenants_than_colours_share_the_last() -> None:
    rows = [row(f"t{n:02}", "m", 0, requests=1, prompt=n + 1) for n in range(12)]
    report = report_of(rows, ("tenant",), (DAY, DAY), PRICING)
    text = page(report, [("2024-10-04", f"t{n:02}", n + 1) for n in range(12)], report)
    assert "others" in text
