"""`inhouse plan` and `inhouse apply`: from the site that runs to the one that a file describes."""

import asyncio
import os
from pathlib import Path
from typing import Any

from rich.text import Text

from serve.cli.client import NO_SERVER, AdminClient
from serve.cli.models import client_of
from serve.cli.terminal import JsonOption, SiteOption, SocketOption, out, print_json, say
from serve.core.errors import RequestError
from serve.release.events import Outcome
from serve.release.foresight import from_nothing
from serve.release.render import document
from serve.settings.load import load_site
from serve.sites import foundry_of

UNKNOWN_END = (NO_SERVER, "lost")
"""Refusals that leave open what the server does."""


def plan(site_file: SiteOption, socket: SocketOption = None, as_json: JsonOption = False) -> None:
    """Say what applying a site file would do, and whether it fits; nothing is changed.

    Against the running server where its socket answers, else as if nothing ran.
    """
    try:
        answer = client_of(site_file, socket).post("/admin/v1/plan", body_of(site_file))
    except RequestError as error:
        if error.code != NO_SERVER or socket is not None:
            raise
        site = load_site(site_file)
        answer = document(asyncio.run(from_nothing(site, foundry_of(site, os.environ))))
        answer["text"].append("no server runs: this is its start from nothing")
    if as_json:
        print_json(answer)
        return
    say(*answer["text"])


def apply(site_file: SiteOption, socket: SocketOption = None) -> None:
    """Have the running server serve what a site file says; exit code 0 says that it does."""
    try:
        _watch(client_of(site_file, socket), site_file)
    except RequestError as error:
        if error.code in UNKNOWN_END:
            raise
        raise RequestError(f"{error.message}; the site from before still serves") from None


def _watch(client: AdminClient, site_file: Path) -> None:
    """Show each event; raises RequestError unless the last says that the site is applied."""
    last: dict[str, Any] = {}
    with out.status("apply") as shown:
        for event in client.events("/admin/v1/apply", body_of(site_file)):
            if "error" in event:
                raise RequestError(event["error"]["message"], code=event["error"]["code"])
            last = event
            if event.get("outcome") in (None, Outcome.APPLIED):
                shown.update(Text(event["text"]))
                say(event["text"])
    if "outcome" not in last:
        raise RequestError("the server ended before the apply did; its log says why", code="lost")
    if last["outcome"] != Outcome.APPLIED:
        raise RequestError(last["text"])


def body_of(site_file: Path) -> dict[str, Any]:
    """What names the file to a server that runs in another folder."""
    return {"site_file": str(site_file.resolve())}
