"""Prices: dates without holes, exact sums, and names that mean a model."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.core.errors import SettingsError
from serve.core.usage import Usage
from serve.settings.hosted import load_hosted
from serve.settings.load import load_site
from serve.settings.prices import Price, Prices, Pricing
from serve.settings.site import Site

SITE = """\
site: x
engine_defaults: {kind: fake}
models:
  - use: m
prices:
  currency: EUR
  models:
"""
Load = Callable[[str], Site]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.yaml").write_text(
        "name: m\nsource: {path: none}\ncontext_tokens: 1024\n"
    )
    (tmp_path / "sites").mkdir()

    def load(prices: str) -> Site:
        path = tmp_path / "sites" / "site.yaml"
        path.write_text(SITE + prices)
        return load_site(path)

    return load


def priced(**fields: object) -> Price:
    return Price.model_validate(fields)


def at(date: str) -> float:
    day = datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC)
    return day.timestamp()


def test_prices_hold_from_their_day_until_the_next(load: Load) -> None:
    site = load(
        "    m:\n"
        "      - {input: 0.1, cached_input: 0.025, output: 0.4}\n"
        "      - {since: 2026-06-01, input: 0.2, output: 0.8}\n"
    )
    price = Pricing(site.prices)
    usage = Usage(prompt=1000, completion=10, cached=400)
    assert price("m", at("2026-05-31T23:59:59"), usage) == 600 * 100 + 400 * 25 + 10 * 400
    assert price("m", at("2026-06-01"), usage) == 1000 * 200 + 10 * 800
    assert price("other", at("2026-06-01"), usage) is None
    assert site.prices.currency == "EUR"


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        (
            "    m:\n      - {until: 2026-03-01, input: 1, output: 1}\n"
            "      - {since: 2026-04-01, input: 1, output: 1}\n",
            "has no price from 2026-03-01 until 2026-04-01",
        ),
        (
            "    m:\n      - {until: 2026-05-01, input: 1, output: 1}\n"
            "      - {since: 2026-04-01, input: 1, output: 1}\n",
            "has two prices from 2026-04-01 until 2026-05-01",
        ),
        (
            "    m:\n      - {since: 2026-01-01, until: 2026-03-01, input: 1, output: 1}\n",
            "has no price from 2026-03-01 on",
        ),
        (
            "    m:\n      - {since: 2026-04-01, input: 1, output: 1}\n"
            "      - {since: 2026-03-01, input: 1, output: 1}\n",
            "list them oldest first",
        ),
        (
            "    m:\n      - {since: 2026-04-01, input: 1, output: 1}\n"
            "      - {since: 2026-04-01, input: 2, output: 1}\n",
            "which is not after 2026-04-01",
        ),
        (
            "    m:\n      - {input: 1, output: 1}\n      - {input: 1, output: 1}\n",
            "needs the day since which it holds",
        ),
        (
            "    m:\n      - {since: 2026-04-01, until: 2026-04-01, input: 1, output: 1}\n",
            "ends on 2026-04-01, before it begins",
        ),
        ("    m:\n      - {input: 1, cached_input: 2, output: 1}\n", "cached tokens cost more"),
        ("    m: []\n", "has no price; give one"),
        ("    other:\n      - {input: 1, output: 1}\n", "m has no price, and others have"),
        ("    m:\n      - {input: -1, output: 1}\n", "a number of 0 to 1000000"),
        ("    m:\n      - {input: 0.0001, output: 1}\n", "at most three decimals"),
        ("    m:\n      - {input: 1}\n", "output is missing"),
        ("    m:\n      - {since: tomorrow, input: 1, output: 1}\n", "a date"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_what_is_missing(
    prices: str, says: str, load: Load
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(prices)
    assert says in refused.value.message
    assert "site.yaml:" in refused.value.message


@pytest.mark.parametrize(
    ("asked", "costs"),
    [
        ("m", 1000), ("m-2026-01-01", 2000), ("m-2025-01-01", 1000), ("m:law", 3000),
        ("m-2025-01-01:law-2026-02-02", 3000), ("m-2026-01-01:chat", 2000), ("m:chat", 1000),
        ("n", None),
    ],
)  # fmt: skip
def test_snapshots_and_adapters_cost_what_their_model_does(asked: str, costs: int | None) -> None:
    prices = Prices(
        models={
            "m": (priced(input=1, output=1),),
            "m-2026-01-01": (priced(input=2, output=2),),
            "m:law": (priced(input=3, output=3),),
        }
    )
    assert Pricing(prices)(asked, 0.0, Usage(prompt=1)) == costs


def test_what_the_cache_saves_is_exact() -> None:
    price = priced(input="0.333", cached_input="0.033", output=9)
    assert price.saved_nano(Usage(prompt=10**9, cached=10**9 - 1)) == (10**9 - 1) * 300


def test_the_hosted_table_that_is_shipped_names_day_and_source_of_each_figure() -> None:
    (path,) = (Path(__file__).parents[2] / "configs" / "prices").glob("hosted-*.yaml")
    hosted = load_hosted(path)
    assert len(hosted.models) >= 3
    for price in hosted.models.values():
        assert price.source.startswith("https://")
        assert price.as_of <= datetime.date(2026, 11, 24)
        assert price.cached_input is not None
        assert price.cached_input < price.input


def test_a_hosted_figure_without_a_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hosted.yaml"
    path.write_text(
        "currency: USD\ntitle: t\nmodels:\n  x: {input: 1, output: 1, as_of: 2026-01-01}\n"
    )
    with pytest.raises(SettingsError, match=r"hosted\.yaml:4: models\.x\.source is missing"):
        load_hosted(path)
