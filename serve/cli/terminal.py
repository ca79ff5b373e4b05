"""What every command shares: where it writes, and how it is told which site is meant."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from serve.core.errors import InhouseError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_SITE: Final = typer.Option(
    "--site", help="The site file.", envvar="INHOUSE_SITE", show_envvar=True
)
SiteOption = Annotated[Path, _SITE]
OptionalSiteOption = Annotated[Path | None, _SITE]
SiteArgument = Annotated[Path, typer.Argument(help="The site file.")]
SocketOption = Annotated[
    Path | None,
    typer.Option("--socket", help="The running server's admin socket, instead of the site's."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

QUICKSTART = Path("configs/sites/quickstart.yaml")


def print_json(value: dict[str, Any]) -> None:
    """As a program reads it: no colours, nothing wrapped."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def say(*lines: str) -> None:
    """Lines for a person: nothing in them is markup, and nothing is wrapped."""
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def fail(error: InhouseError, code: int) -> None:
    """Say what is wrong in one line, and exit."""
    err.print(error.message, style="red", markup=False, soft_wrap=True)
    sys.exit(code)
