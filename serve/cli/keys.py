"""`inhouse keys`: who may ask, and for what."""

import datetime
import re
import time
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from serve.cli.table import NOTHING, aligned, span
from serve.cli.tenancy import tenants_of
from serve.cli.terminal import (
    QUICKSTART,
    JsonOption,
    SiteOption,
    SocketOption,
    err,
    out,
    print_json,
    say,
)
from serve.core.errors import SettingsError
from serve.core.roster import DEFAULT_TENANT

COLUMNS: Final = ("key", "tenant", "status", "expires in", "models", "endpoints", "id")
UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

app = typer.Typer(no_args_is_help=True, help="API keys of a site.")

KeyArgument = Annotated[str, typer.Argument(help="A key's name, or its id.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant whose key it is.")]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", metavar="WHEN", help="`90d`, `12h`, or a date such as 2027-01-31."),
]


@app.command("add")
def add(
    name: str,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
    models: Annotated[
        str | None, typer.Option(help="Models and routes it is for, such as `small,llama-*`; all.")
    ] = None,
    endpoints: Annotated[
        str | None, typer.Option(help="Endpoints it is for, such as `chat,embeddings`; all.")
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Let it administer tenants and keys.")
    ] = False,
    expires: ExpiresOption = None,
) -> None:
    """Make a key and show it, once."""
    scopes = {"models": _listed(models), "endpoints": _listed(endpoints), "admin": admin}
    body = {"name": name, "tenant": tenant, "scopes": scopes, **_until(expires)}
    out.print(tenants_of(site_file, socket).post("/admin/v1/keys", body)["key"], soft_wrap=True)


@app.command("list")
def show(
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Of this tenant alone.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys, without their text, which nobody has."""
    query = "" if tenant is None else f"?tenant={_quoted(tenant)}"
    answer = tenants_of(site_file, socket).get(f"/admin/v1/keys{query}")
    if as_json:
        print_json(answer)
        return
    say(*lines(answer, time.time()))


@app.command("revoke")
def revoke(
    key: KeyArgument,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
) -> None:
    """End a key now, and what is being answered to it."""
    for one in tenants_of(site_file, socket).post(_path(key, tenant, "/revoke"))["data"]:
        say(f"{one['name']} ({one['id']}): revoked")


@app.command("rotate")
def rotate(
    key: KeyArgument,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
    overlap: Annotated[
        str, typer.Option(help="How long the old one is good still, such as `24h`; not at all.")
    ] = "0s",
    expires: ExpiresOption = None,
) -> None:
    """Make a key that takes another's place, with its name and scopes, and show it, once."""
    body = {"overlap_s": seconds(overlap), **_until(expires)}
    made = tenants_of(site_file, socket).post(_path(key, tenant, "/rotate"), body)
    out.print(made["key"], soft_wrap=True)
    until = f"is good for {overlap} more" if body["overlap_s"] else "is revoked"
    err.print(f"the key from before {until}", markup=False)


@app.command("remove")
def remove(
    key: KeyArgument,
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
) -> None:
    """Revoke a key and forget it."""
    for one in tenants_of(site_file, socket).delete(_path(key, tenant))["data"]:
        say(f"{one['name']} ({one['id']}): removed")


def lines(answer: dict[str, Any], now_s: float) -> list[str]:
    """The keys, for a person; `now_s` is Unix time."""
    rows = [_row(one, now_s) for one in answer["data"]]
    return aligned([COLUMNS, *rows], left=COLUMNS) if rows else ["there are no keys"]


def _row(one: dict[str, Any], now_s: float) -> tuple[str, ...]:
    scopes, until_s = one["scopes"], one["expires_at"]
    endpoints = "all" if scopes["endpoints"] is None else ",".join(scopes["endpoints"])
    return (
        one["name"],
        one["tenant"],
        one["status"],
        span(until_s - now_s) if one["status"] == "good" and until_s is not None else NOTHING,
        "all" if scopes["models"] is None else ",".join(scopes["models"]),
        f"{endpoints} +admin" if scopes["admin"] else endpoints,
        one["id"],
    )


def seconds(text: str) -> float:
    """`90d`, `12h`, `30m`, `10s` or `2w` in seconds. Raises SettingsError."""
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    if found is None:
        raise SettingsError(f"{text!r} is no length of time; write it as 90d, 12h, 30m or 10s")
    return float(int(found[1]) * UNITS_S[found[2]])


def _until(text: str | None) -> dict[str, float]:
    """What the server is told of an expiry: a length of time by its clock, or a date."""
    if text is None:
        return {}
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return {"expires_in_s": seconds(text)}
    return {"expires_at": (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()}


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [one.strip() for one in text.split(",")]


def _path(key: str, tenant: str, more: str = "") -> str:
    return f"/admin/v1/keys/{_quoted(key)}{more}?tenant={_quoted(tenant)}"


def _quoted(text: str) -> str:
    return quote(text, safe="")
