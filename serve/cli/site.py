"""Commands about a site's files and this machine; none of them needs a running server."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from serve import __version__
from serve.api.openapi import document
from serve.cli.terminal import QUICKSTART, SiteArgument, SiteOption, out, say
from serve.engines import survey
from serve.engines.doctor import examine
from serve.settings.load import load_site
from serve.settings.schema import json_schema, settings_table
from serve.settings.summary import check_site
from serve.weights.digest import write_manifest


def check(site_file: SiteArgument) -> None:
    """Check a site file and what it names; exit code 2 says it is wrong."""
    say(*check_site(site_file, check=survey.conflicts, more=survey.lines))


def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="A table of all settings.")] = False,
) -> None:
    """Print the JSON Schema of the site file."""
    if markdown:
        sys.stdout.write(settings_table())
    else:
        out.print_json(data=json_schema())


def openapi() -> None:
    """Print the API as an OpenAPI 3.1 document; a running server has it at `/openapi.json`."""
    sys.stdout.write(json.dumps(document(), indent=2) + "\n")


def doctor(site_file: SiteOption = QUICKSTART) -> None:
    """Say how each model would be run on this machine and why, and what is missing."""
    raise typer.Exit(0 if examine(load_site(site_file), out) else 3)


def digest(directory: Path) -> None:
    """Digest a model's directory and keep the digests of its files beside them."""
    out.print(write_manifest(directory))


def version() -> None:
    """Print the version."""
    out.print(__version__)
