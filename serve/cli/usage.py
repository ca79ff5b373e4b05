"""`inhouse usage`: what was used, by whom, and what it cost."""

import asyncio
import datetime
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from sqlalchemy import URL

from serve.cli.table import aligned
from serve.cli.terminal import QUICKSTART, SiteOption, print_json, say
from serve.core.errors import SettingsError, SetupError
from serve.metering.page import page
from serve.metering.report import Report, date_of, day_of, needed, report_of
from serve.metering.sheets import as_csv, as_json, comparison, table
from serve.settings.hosted import Hosted, load_hosted
from serve.settings.load import load_site
from serve.settings.prices import Pricing
from serve.settings.site import Site
from serve.state.usage import DIMENSIONS, Asked, UsageRecords
from serve.store.address import address_of
from serve.store.database import Database

DAYS: Final = 30
"""Days of a report that is not told from when."""

Rows = list[dict[str, Any]]

app = typer.Typer(no_args_is_help=True, help="What was used, by whom, and what it cost.")


@app.callback()
def usage() -> None:
    """What was used, by whom, and what it cost."""


@app.command("report")
def report(
    site_file: SiteOption = QUICKSTART,
    by: Annotated[
        str, typer.Option("--by", help=f"Any of {', '.join(DIMENSIONS)}, with commas.")
    ] = "tenant,model,day",
    form: Annotated[
        Literal["table", "csv", "json", "html"], typer.Option("--format", help="How it is written.")
    ] = "table",
    first: Annotated[
        datetime.datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day, in UTC; 30 days ago."),
    ] = None,
    last: Annotated[
        datetime.datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included; today."),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Of this tenant alone.")] = None,
    hosted_file: Annotated[
        Path | None,
        typer.Option(
            "--hosted", help="Compare with these prices, such as configs/prices/hosted-2026-11.yaml"
        ),
    ] = None,
) -> None:
    """Sum up the ledger's records; the server may run, and need not."""
    site = load_site(site_file)
    hosted = None if hosted_file is None else load_hosted(hosted_file)
    asked = _asked(first, last, tenant)
    names = _dimensions(by)
    rows, plotted = asyncio.run(_rows(site, names, asked, plots=form == "html"))
    pricing = Pricing(site.prices)
    made = report_of(rows, names, (asked.first_day, asked.last_day), pricing, hosted)
    match form:
        case "csv":
            sys.stdout.write(as_csv(made))
        case "json":
            print_json(as_json(made))
        case "html":
            sys.stdout.write(_page(made, plotted, asked, pricing, hosted))
        case _:
            say(*(*aligned(table(made), left=names), *comparison(made)))


def _asked(
    first: datetime.datetime | None, last: datetime.datetime | None, tenant: str | None
) -> Asked:
    last_day = day_of((last or datetime.datetime.now(datetime.UTC)).date())
    first_day = last_day - DAYS + 1 if first is None else day_of(first.date())
    if first_day > last_day:
        raise SettingsError(f"--from {date_of(first_day)} is after --to {date_of(last_day)}")
    return Asked(first_day, last_day, tenant)


def _dimensions(by: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in by.split(",")))
    for name in names:
        if name not in DIMENSIONS:
            raise SettingsError(f"--by {name!r}: give any of {', '.join(DIMENSIONS)}")
    return names


async def _rows(site: Site, by: tuple[str, ...], asked: Asked, *, plots: bool) -> tuple[Rows, Rows]:
    """Records grouped for the report, and for its plots."""
    database = Database(_address(site))
    await asyncio.to_thread(database.open)
    try:
        records = UsageRecords(database)
        rows = await records.grouped(needed(by), asked)
        return rows, await records.grouped(needed(("tenant",)), asked) if plots else []
    finally:
        await asyncio.to_thread(database.close)


def _address(site: Site) -> URL:
    """The database's; a file is not made by looking for it."""
    address = address_of(site.state.database, site.var_dir, site.state.password_file)
    file = address.database
    if address.get_backend_name() == "sqlite" and file and not Path(file).exists():
        raise SetupError(f"{file}: is not there: this site has not been served yet")
    return address


def _page(made: Report, plotted: Rows, asked: Asked, pricing: Pricing, of: Hosted | None) -> str:
    days = (asked.first_day, asked.last_day)
    tokens = [
        (date_of(row["day"]).isoformat(), row["tenant"], row["prompt"] + row["completion"])
        for row in plotted
    ]
    return page(made, tokens, report_of(plotted, ("tenant",), days, pricing, of))
