"""`inhouse keys`: the API keys of a site."""

import typer

from serve.cli.terminal import SiteOption, out
from serve.settings.keys import add_key, load_keys, remove_key
from serve.settings.load import load_site

app = typer.Typer(no_args_is_help=True, help="API keys of a site.")


@app.command("add")
def add(name: str, site_file: SiteOption) -> None:
    """Make a key and show it, once."""
    out.print(add_key(load_site(site_file).auth.keys_file, name))


@app.command("list")
def show(site_file: SiteOption) -> None:
    """List the names of the keys."""
    for entry in load_keys(load_site(site_file).auth.keys_file).keys:
        out.print(f"{entry.name}  {entry.created}")


@app.command("remove")
def remove(name: str, site_file: SiteOption) -> None:
    """Remove a key; a running server forgets it at its next start."""
    remove_key(load_site(site_file).auth.keys_file, name)
