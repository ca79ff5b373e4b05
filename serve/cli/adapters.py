"""`inhouse adapters`: which a running server has, and the order to look for them again."""

from typing import Annotated, Any, Final

import typer

from serve.cli.models import client_of
from serve.cli.table import aligned
from serve.cli.terminal import QUICKSTART, JsonOption, SiteOption, SocketOption, print_json, say

COLUMNS: Final = ("adapter", "also", "rank", "digest", "in hand")
LOOK_TIMEOUT_S: Final = 600.0
"""For reading every new adapter once, to digest it."""
DIGITS: Final = 12
"""Of a digest for a person."""


def adapters(
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    rescan: Annotated[
        bool, typer.Option("--rescan", help="Look into the models' folders again first.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the adapters of a running server's models, and why others are not served."""
    client = client_of(site_file, socket)
    path = "/admin/v1/adapters"
    answer = client.post(f"{path}/rescan", timeout_s=LOOK_TIMEOUT_S) if rescan else client.get(path)
    if as_json:
        print_json(answer)
        return
    say(*lines(answer))


def lines(answer: dict[str, Any]) -> list[str]:
    """What the server tells, for a person."""
    models = answer["data"]
    rows = [_row(one) for model in models for one in model["adapters"]]
    told = aligned([COLUMNS, *rows], left=COLUMNS[:2]) if rows else ["no adapter is served"]
    reasons = dict.fromkeys(one["reason"] for model in models for one in model["refused"])
    told += [f"not served: {reason}" for reason in reasons]
    if (changes := answer.get("changes")) is not None:
        counts = [f"{len(names)} {what}" for what, names in changes.items() if names]
        told.append(f"looked again: {', '.join(counts) or 'nothing has changed'}")
    return told


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    digest = one["digest"].removeprefix("sha256:")[:DIGITS]
    also = ", ".join(one["aliases"]) or "-"
    return one["id"], also, str(one["rank"]), digest, str(one["in_hand"])
