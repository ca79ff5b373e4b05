"""The `inhouse` command: commands only; what they do lies behind them."""

import asyncio
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from serve import __version__, log
from serve.app import Server, compose, dev_site, fleet_of, run
from serve.console import announce
from serve.core.errors import InhouseError, SettingsError, SetupError
from serve.engines.doctor import examine
from serve.settings.keys import add_key, digest_of, load_keys, remove_key, starter_key
from serve.settings.load import load_site
from serve.settings.schema import json_schema, settings_table
from serve.settings.site import Site
from serve.settings.summary import check_site
from serve.weights.digest import write_manifest

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve open-weight models on your own machines behind an OpenAI-compatible API.",
)
keys_app = typer.Typer(no_args_is_help=True, help="API keys of a site.")
app.add_typer(keys_app, name="keys")
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

SiteOption = Annotated[Path, typer.Option("--site", help="The site file.")]
SiteArgument = Annotated[Path, typer.Argument(help="The site file.")]


class DevAuth(StrEnum):
    keys = "keys"
    none = "none"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@app.command()
def serve(
    site_file: SiteOption,
    starter: Annotated[
        bool, typer.Option("--starter-key", help="Make a key at first start and show it.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Listen here instead of listen.port.")
    ] = None,
) -> None:
    """Serve a site until Ctrl-C or SIGTERM."""
    site = load_site(site_file)
    if port is not None:
        site = site.model_copy(update={"listen": site.listen.model_copy(update={"port": port})})
    keys = load_keys(site.auth.keys_file)
    digests = dict(keys.digests)
    key = None
    if site.auth.mode == "keys":
        if starter:
            key = starter_key(site.var_dir / "starter.key")
            digests |= {digest_of(key): "starter"}
        if not digests:
            raise SettingsError(
                f"{site.auth.keys_file}: no key yet, and auth.mode is `keys`; make one: "
                f"inhouse keys add NAME --site {site_file}"
            )
    _configure_log(site)
    _run(compose(site, fleet_of(site, os.environ), digests), key)


@app.command()
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
    digests = {digest_of(key): "starter"} if key else {}
    _run(compose(site, fleet_of(site, os.environ, knobs), digests), key)


@app.command()
def check(site_file: SiteArgument) -> None:
    """Check a site file and what it names; exit code 2 says it is wrong."""
    for line in check_site(site_file):
        out.print(line, markup=False)


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="A table of all settings.")] = False,
) -> None:
    """Print the JSON Schema of the site file."""
    if markdown:
        sys.stdout.write(settings_table())
    else:
        _print_json(json_schema())


@app.command()
def doctor(site_file: SiteOption = Path("configs/sites/quickstart.yaml")) -> None:
    """Say how each model would be run on this machine and why, and what is missing."""
    raise typer.Exit(0 if examine(load_site(site_file), out) else 3)


@app.command()
def digest(directory: Path) -> None:
    """Digest a model's directory and keep the digests of its files beside them."""
    out.print(write_manifest(directory))


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)


@keys_app.command("add")
def keys_add(name: str, site_file: SiteOption) -> None:
    """Make a key and show it, once."""
    out.print(add_key(load_site(site_file).auth.keys_file, name))


@keys_app.command("list")
def keys_list(site_file: SiteOption) -> None:
    """List the names of the keys."""
    for entry in load_keys(load_site(site_file).auth.keys_file).keys:
        out.print(f"{entry.name}  {entry.created}")


@keys_app.command("remove")
def keys_remove(name: str, site_file: SiteOption) -> None:
    """Remove a key; a running server forgets it at its next start."""
    remove_key(load_site(site_file).auth.keys_file, name)


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


def _print_json(value: dict[str, Any]) -> None:
    out.print_json(data=value)


def main() -> None:
    """Run a command; a known failure is one line on stderr and an exit code, never a traceback.

    Exit codes: 2 the site file or the command line is wrong, 3 the machine lacks something.
    """
    try:
        app()
    except SettingsError as error:
        _fail(error, 2)
    except SetupError as error:
        _fail(error, 3)
    except InhouseError as error:
        _fail(error, 1)


def _fail(error: InhouseError, code: int) -> None:
    err.print(error.message, style="red", markup=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
