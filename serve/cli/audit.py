"""`inhouse audit`: whether the audit log is whole, and what is in it."""

import datetime
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
import typer

from serve.audit.files import PUBLIC_KEY
from serve.audit.key import PublicKey, public_key
from serve.audit.search import Wanted, search
from serve.audit.verify import Verdict, day, lines_of, verify
from serve.cli.table import aligned
from serve.cli.terminal import QUICKSTART, JsonOption, SiteOption, print_json, say
from serve.core.errors import SettingsError
from serve.settings.load import load_site

NOT_WHOLE: Final = 4
"""Exit code where the log is not what was written."""
COLUMNS: Final = ("record", "time (UTC)", "kind", "tenant", "key", "what")
_ELSEWHERE: Final = ("seq", "time", "kind", "tenant", "key")
_WHAT_MAX_CHARS: Final = 160

app = typer.Typer(no_args_is_help=True, help="The audit log: whether it is whole, what is in it.")

FolderOption = Annotated[
    Path | None,
    typer.Option("--log", help="The log's folder, or a copy; `audit/` in the site's var_dir."),
]


@app.command("verify")
def check(
    site_file: SiteOption = QUICKSTART,
    folder: FolderOption = None,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option("--checkpoints", help="Folder of exported checkpoints; may be repeated."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--public-key", help="File with the public keys that count, one a line."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find whatever was changed, removed, moved or cut off; exit code 4 where something was."""
    others = list(checkpoints or ())
    if folder is None:
        site = load_site(site_file)
        folder = site.var_dir / "audit"
        if not others and site.audit.export_dir is not None:
            others = [site.audit.export_dir]
    verdict = verify(folder, others, _keys(key_file))
    if as_json:
        print_json(_plain(verdict))
    else:
        say(*lines_of(verdict))
    if not verdict.good:
        sys.exit(NOT_WHOLE)


@app.command("show")
def show(
    site_file: SiteOption = QUICKSTART,
    folder: FolderOption = None,
    kind: Annotated[
        str | None, typer.Option(help="Such as `request`, `admin`, `model`, `admin.order`.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    key: Annotated[str | None, typer.Option(help="Of the keys of this name.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model, by its pinned name.")] = None,
    request: Annotated[str | None, typer.Option(help="Of the request of this id.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="A day or a time, in UTC.", metavar="TIME")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Up to a time, or through a day.", metavar="TIME")
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, help="So many at most, the newest.")] = None,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="`json`: an object a line.")
    ] = "table",
) -> None:
    """Show records; the server may run, and need not."""
    if folder is None:
        folder = load_site(site_file).var_dir / "audit"
    wanted = Wanted(
        kind, tenant, key, model, request,
        _time_s("--from", since), _time_s("--to", until, through=True), last,
    )  # fmt: skip
    found = search(folder, wanted)
    if form == "json":
        for fields in found:
            sys.stdout.write(orjson.dumps(fields).decode() + "\n")
        return
    say(*aligned([COLUMNS, *map(_row, found)], left=COLUMNS[1:]))


def _keys(file: Path | None) -> list[PublicKey]:
    if file is None:
        return []
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--public-key {file}: cannot be read: {error}") from None
    keys = [public_key(line) for line in lines if line.strip()]
    if not keys:
        raise SettingsError(
            f"--public-key {file}: holds no key; give a copy of {PUBLIC_KEY} from the log's folder"
        )
    return keys


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        "log": verdict.name,
        "whole": verdict.good,
        "findings": verdict.findings,
        "notes": verdict.notes,
        "first": verdict.first,
        "records": verdict.size - verdict.first,
        "checkpoints": verdict.checkpoints,
        "covered_to": verdict.covered,
    }


def _time_s(option: str, text: str | None, *, through: bool = False) -> float | None:
    """Unix time of what was written; the end of a day where it is meant `through`."""
    if text is None:
        return None
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{option} {text!r}: write it as 2026-11-24 or 2026-11-24T12:30"
        ) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    if through and len(text) == len("2026-11-24"):
        when += datetime.timedelta(days=1)
    return when.timestamp()


def _row(fields: dict[str, Any]) -> tuple[str, ...]:
    what = " ".join(
        f"{name}={orjson.dumps(value).decode() if isinstance(value, dict | list) else value}"
        for name, value in fields.items()
        if name not in _ELSEWHERE and value not in (None, "", {})
    )
    cut = what if len(what) <= _WHAT_MAX_CHARS else what[:_WHAT_MAX_CHARS] + "…"
    return (
        str(fields["seq"]),
        day(fields["time"]),
        str(fields["kind"]),
        str(fields.get("tenant") or ""),
        str(fields.get("key") or ""),
        cut,
    )
