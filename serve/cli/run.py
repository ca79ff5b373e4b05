"""`inhouse serve` and `inhouse dev`: the server itself."""

import asyncio
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from serve import log
from serve.app import compose
from serve.cli.terminal import OptionalSiteOption, out
from serve.console import announce
from serve.core.errors import SettingsError
from serve.door import run
from serve.kept import record_refusal
from serve.server import Server
from serve.settings.keys import starter_key
from serve.settings.site import Site
from serve.sites import (
    Origin,
    dev_site,
    foundry_of,
    load_as_served,
    load_last_good,
    portfolio_of,
)


class DevAuth(StrEnum):
    keys = "keys"
    none = "none"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def serve(
    site_file: OptionalSiteOption = None,
    last_good: Annotated[
        Path | None,
        typer.Option(
            "--last-good",
            metavar="VAR_DIR",
            help="Serve the last site that was applied, from its copy in this var_dir: for when "
            "the site file is broken.",
        ),
    ] = None,
    starter: Annotated[
        bool, typer.Option("--starter-key", help="Make a key at first start and show it.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Listen here instead of listen.port.")
    ] = None,
) -> None:
    """Serve a site until Ctrl-C or SIGTERM."""
    load = load_as_served(port)
    if last_good is not None:
        loaded = load_last_good(last_good, port)
    elif site_file is not None:
        loaded = load(site_file)
    else:
        raise SettingsError("say what to serve: --site FILE, or --last-good VAR_DIR")
    site = loaded.site
    key = None
    if starter and site.auth.mode == "keys":
        key = starter_key(site.var_dir / "starter.key")
    _configure_log(site)
    foundry = foundry_of(site, os.environ)
    try:
        portfolio = foundry.portfolio(
            site.models, site.engine_defaults, site.limits.waiting_requests
        )
    except SettingsError as error:
        # A digest that does not fit is one of these.
        asyncio.run(record_refusal(site, error))
        raise
    _run(compose(site, portfolio, key, origin=Origin(loaded, load, foundry)), key)


def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8000,
    tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 16,
    ttft_ms: Annotated[float, typer.Option(help="Time to the first token.")] = 20,
    tpot_ms: Annotated[float, typer.Option(help="Time between tokens.")] = 5,
    auth: Annotated[
        DevAuth, typer.Option(help="`keys` shows a key, `none` needs none.")
    ] = DevAuth.keys,
    log_level: Annotated[LogLevel, typer.Option(help="Least level logged.")] = LogLevel.info,
    var_dir: Annotated[Path, typer.Option(help="Where keys and sockets lie.")] = Path("var/dev"),
) -> None:
    """Serve a fake engine: no model, no vLLM, up in a moment; for work on everything else."""
    site = dev_site(port, auth, log_level, var_dir.absolute())
    knobs = (f"--tokens={tokens}", f"--ttft-ms={ttft_ms}", f"--tpot-ms={tpot_ms}")
    key = starter_key(site.var_dir / "starter.key") if auth == "keys" else None
    _configure_log(site)
    _run(compose(site, portfolio_of(site, os.environ, knobs), key), key)


def _configure_log(site: Site) -> None:
    form = site.log.format
    if form == "auto":
        form = "console" if sys.stderr.isatty() else "json"
    log.configure(site.log.level, form)


def _run(server: Server, key: str | None) -> None:
    async def main() -> None:
        shown = asyncio.create_task(announce(server, out, key))
        try:
            await run(server)
        finally:
            shown.cancel()

    uvloop.run(main())
