"""`inhouse status`, and orders to the models of a running server."""

import time
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from serve.cli import table
from serve.cli.client import AdminClient
from serve.cli.terminal import (
    QUICKSTART,
    JsonOption,
    SiteOption,
    SocketOption,
    out,
    print_json,
    say,
)
from serve.core.errors import RequestError
from serve.settings.load import load_site

REFRESH_S: Final = 1.0
LOOK_AGAIN_S: Final = 0.5

ModelArgument = Annotated[str, typer.Argument(help="A model's name, alias or snapshot.")]


def status(
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the models of a running server do; until Ctrl-C at a terminal."""
    client = client_of(site_file, socket)
    if as_json:
        print_json(_measured(client))
    elif once or not out.is_terminal:
        say(table.plain(_measured(client)))
    else:
        _live(client)


def load(
    model: ModelArgument, site_file: SiteOption = QUICKSTART, socket: SocketOption = None
) -> None:
    """Have a model ready."""
    _order(client_of(site_file, socket), "load", model)


def sleep(
    model: ModelArgument, site_file: SiteOption = QUICKSTART, socket: SocketOption = None
) -> None:
    """Have a model free its device; the next request wakes it."""
    _order(client_of(site_file, socket), "sleep", model)


def drain(
    model: ModelArgument, site_file: SiteOption = QUICKSTART, socket: SocketOption = None
) -> None:
    """Let what runs on a model end, then stop it until `inhouse load`."""
    _order(client_of(site_file, socket), "drain", model)


def restart(
    model: ModelArgument, site_file: SiteOption = QUICKSTART, socket: SocketOption = None
) -> None:
    """Replace a model's process; what runs ends first, what comes meanwhile waits."""
    _order(client_of(site_file, socket), "restart", model)


def client_of(site_file: Path, socket: Path | None) -> AdminClient:
    """The running server of a site, or the one that listens on `socket`."""
    return AdminClient(socket if socket is not None else load_site(site_file).admin.socket)


def _measured(client: AdminClient) -> dict[str, Any]:
    """What the server tells; asked twice where it must measure first."""
    answer = client.get("/admin/v1/models")
    if any(one["running"] is not None and one["tokens_per_s"]["generated"] is None
           for one in answer["data"]):  # fmt: skip
        time.sleep(REFRESH_S)
        answer = client.get("/admin/v1/models")
    return answer


def _live(client: AdminClient) -> None:
    answer = client.get("/admin/v1/models")
    with Live(_screen(answer), console=out, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(REFRESH_S)
                live.update(_screen(client.get("/admin/v1/models")), refresh=True)
        except KeyboardInterrupt:
            return


def _screen(answer: dict[str, Any]) -> Group:
    return Group(table.rich_table(answer), *(Text(line) for line in table.footer(answer)))


def _order(client: AdminClient, kind: str, model: str) -> None:
    path = f"/admin/v1/models/{quote(model, safe='')}"
    with out.status(f"{kind} {model}") as shown:
        told = client.post(f"{path}/{kind}")
        while told["order"] is not None:
            shown.update(Text(f"{kind} {told['id']}: {told['state']}"))
            time.sleep(LOOK_AGAIN_S)
            told = client.get(path)
    last = told["last_order"]
    if last["error"] is not None:
        raise RequestError(last["error"])
    out.print(f"{told['id']}: {told['state']} ({kind} took {last['took_s']:.1f} s)", markup=False)
