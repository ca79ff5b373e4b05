"""`inhouse batches`: how far the batches of a running server are, and the order to end one."""

import time
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from serve.cli.models import client_of
from serve.cli.table import NOTHING, aligned, span
from serve.cli.terminal import QUICKSTART, JsonOption, SiteOption, SocketOption, print_json, say

COLUMNS: Final = ("batch", "status", "key", "endpoint", "lines", "done", "failed", "age", "left")
LEFT: Final = COLUMNS[:4]
_ENDED: Final = ("completed", "failed", "expired", "cancelled")


def batches(
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    cancel: Annotated[
        str | None, typer.Option("--cancel", metavar="ID", help="End this one with what it has.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the batches of a running server: unfinished ones, and the latest that have ended."""
    client = client_of(site_file, socket)
    path = "/admin/v1/batches"
    if cancel is not None:
        told = client.post(f"{path}/{quote(cancel, safe='')}/cancel")
        if as_json:
            print_json(told)
        else:
            say(f"{told['id']}: {told['status']}")
        return
    answer = client.get(path)
    if as_json:
        print_json(answer)
        return
    say(*lines(answer, time.time()))


def lines(answer: dict[str, Any], now_s: float) -> list[str]:
    """What the server tells, for a person; `now_s` is Unix time."""
    rows = [_row(one, now_s) for one in answer["data"]]
    return aligned([COLUMNS, *rows], left=LEFT) if rows else ["there are no batches"]


def _row(one: dict[str, Any], now_s: float) -> tuple[str, ...]:
    counts = one["request_counts"]
    ended = one["status"] in _ENDED
    return (
        one["id"],
        one["status"],
        one["key"],
        one["endpoint"],
        str(counts["total"]),
        str(counts["completed"]),
        str(counts["failed"]),
        span(now_s - one["created_at"]),
        NOTHING if ended else span(one["expires_at"] - now_s),
    )
