"""`inhouse tenants`: groups that share this server and must not see each other."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
import yaml

from serve.cli.table import NOTHING, aligned
from serve.cli.tenancy import ERASE_TIMEOUT_S, tenants_of
from serve.cli.terminal import (
    QUICKSTART,
    JsonOption,
    SiteOption,
    SocketOption,
    out,
    print_json,
    say,
)
from serve.core.errors import SettingsError

COLUMNS: Final = ("tenant", "cache group", "limits", "held since")
ERASED: Final = ("kind", "erased")
HOLDS: Final = ("set", "reason", "lifted", "reason of that")

app = typer.Typer(no_args_is_help=True, help="Tenants of a site.")

LimitsOption = Annotated[
    str | None,
    typer.Option(
        "--limits",
        metavar="YAML",
        help="Its own limits, such as '{requests_per_minute: 60}', or @FILE; they take the place "
        "of all that it had.",
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; it is kept with the hold, a case's number perhaps.")
]
GroupOption = Annotated[
    str | None,
    typer.Option("--cache-group", help="Tenants of one group share what is cached of prompts."),
]


TextOption = Annotated[
    bool | None,
    typer.Option(
        "--audit-text/--no-audit-text", help="Keep prompts and answers beside the audit log."
    ),
]


@app.command("add")
def add(
    name: str,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    limits: LimitsOption = None,
    cache_group: GroupOption = None,
    audit_text: TextOption = None,
) -> None:
    """Make a tenant."""
    body: dict[str, Any] = {"name": name}
    if limits is not None:
        body["limits"] = _read(limits)
    said = {"cache_group": cache_group, "audit_text": audit_text}
    if settings := {name: value for name, value in said.items() if value is not None}:
        body["settings"] = settings
    tenants_of(site_file, socket).post("/admin/v1/tenants", body)


@app.command("list")
def show_all(
    site_file: SiteOption = QUICKSTART, socket: SocketOption = None, as_json: JsonOption = False
) -> None:
    """List the tenants."""
    answer = tenants_of(site_file, socket).get("/admin/v1/tenants")
    if as_json:
        print_json(answer)
        return
    rows = [
        (one["name"], one["settings"].get("cache_group") or NOTHING, _in_short(one["limits"]),
         _date(one["held_since"]))
        for one in answer["data"]
    ]  # fmt: skip
    say(*aligned([COLUMNS, *rows], left=COLUMNS))


@app.command("show")
def show(name: str, site_file: SiteOption = QUICKSTART, socket: SocketOption = None) -> None:
    """Show all that a tenant has of its own, as JSON."""
    print_json(tenants_of(site_file, socket).get(_path(name)))


@app.command("set")
def change(
    name: str,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    limits: LimitsOption = None,
    cache_group: GroupOption = None,
    no_cache_group: Annotated[
        bool, typer.Option("--no-cache-group", help="Let it leave its group.")
    ] = False,
    audit_text: TextOption = None,
) -> None:
    """Change a tenant's limits, with whom it shares what is cached, or what the audit log keeps."""
    tenants = tenants_of(site_file, socket)
    body: dict[str, Any] = {}
    if limits is not None:
        body["limits"] = _read(limits)
    changed: dict[str, Any] = {}
    if cache_group is not None or no_cache_group:
        changed["cache_group"] = None if no_cache_group else cache_group
    if audit_text is not None:
        changed["audit_text"] = audit_text
    if changed:
        body["settings"] = tenants.get(_path(name))["settings"] | changed
    if not body:
        raise SettingsError(
            "say what to change: --limits, --cache-group, --no-cache-group, --audit-text or "
            "--no-audit-text"
        )
    tenants.post(_path(name), body)


@app.command("erase")
def erase(
    name: str,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase all that is kept for a tenant; its keys and its usage records stay."""
    tenants = tenants_of(site_file, socket)
    holds = tenants.get(f"{_path(name)}/holds")["data"]
    if not yes and not (holds and holds[0]["lifted_at"] is None):
        _confirm(f"Erase every response, conversation, file and batch of {name} for good?")
    told = tenants.post(f"{_path(name)}/erase", None, ERASE_TIMEOUT_S)
    if as_json:
        print_json(told)
        return
    rows = [(_in_words(kind), str(count)) for kind, count in told["erased"].items()]
    rows.append(("together", str(sum(told["erased"].values()))))
    say(*aligned([ERASED, *rows], left=ERASED[:1]))
    stopped = [f"{count} {_in_words(kind)}" for kind, count in told["stopped"].items() if count]
    if stopped:
        say(f"stopped first: {', '.join(stopped)}")


@app.command("hold")
def hold(
    name: str,
    reason: ReasonOption,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
) -> None:
    """Put a tenant under a legal hold: nothing of it is destroyed until the hold is lifted."""
    told = tenants_of(site_file, socket).post(f"{_path(name)}/hold", {"reason": reason})
    say(f"{name}: held since {_date(told['set_at'])}")


@app.command("lift")
def lift(
    name: str,
    reason: ReasonOption,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
) -> None:
    """Lift a tenant's legal hold: what was deleted or expired meanwhile is destroyed then."""
    told = tenants_of(site_file, socket).post(f"{_path(name)}/lift", {"reason": reason})
    say(f"{name}: lifted {_date(told['lifted_at'])}")


@app.command("holds")
def show_holds(
    name: str,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the legal holds of a tenant, the latest first."""
    answer = tenants_of(site_file, socket).get(f"{_path(name)}/holds")
    if as_json:
        print_json(answer)
        return
    rows = [
        (_date(one["set_at"]), one["reason"], _date(one["lifted_at"]),
         one["lifted_reason"] or NOTHING)
        for one in answer["data"]
    ]  # fmt: skip
    for line in aligned([HOLDS, *rows], left=HOLDS) if rows else ["there are no holds"]:
        say(line)


@app.command("remove")
def remove(
    name: str,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
) -> None:
    """Revoke all keys of a tenant and erase all that is kept for it; its name stays taken."""
    tenants = tenants_of(site_file, socket)
    if not yes:
        tenants.get(_path(name))
        raise SettingsError(
            f"this erases every response, conversation, file and batch of {name}; "
            "say --yes to do it"
        )
    gone = tenants.delete(_path(name), ERASE_TIMEOUT_S)
    say(f"{name}: removed, with {gone['objects']} objects")


def _path(name: str) -> str:
    return f"/admin/v1/tenants/{quote(name, safe='')}"


def _confirm(question: str) -> None:
    """Go on only with a yes at the terminal; a program that cannot answer must say --yes."""
    if not (sys.stdin.isatty() and out.is_terminal):
        raise SettingsError(f"{question} Say --yes to do it.")
    if not typer.confirm(question):
        raise SettingsError("nothing was erased")


def _in_words(kind: str) -> str:
    return kind.replace("_", " ")


def _date(unix_s: int | None) -> str:
    if unix_s is None:
        return NOTHING
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read(text: str) -> Any:
    """Limits as they were written; the server checks what they say."""
    try:
        written = Path(text[1:]).read_text() if text.startswith("@") else text
        return yaml.safe_load(written)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"--limits: {' '.join(str(error).split())}") from None


def _in_short(limits: dict[str, Any]) -> str:
    return ", ".join(sorted(limits)) or NOTHING
