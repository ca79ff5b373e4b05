"""`inhouse replay`: whether a request, run again, has the same answer, or why not."""

import sys
from typing import Annotated, Any, Final

import typer

from serve.audit.search import Wanted, search
from serve.cli.client import AdminClient
from serve.cli.terminal import QUICKSTART, JsonOption, SiteOption, SocketOption, print_json, say
from serve.core.errors import RequestError
from serve.settings.load import load_site

DIFFERS: Final = 4
"""Exit code where the answer is another, or the kept text is not what the log's digests say."""
NOT_RUN: Final = 5
"""Exit code where it could not be run again."""
TIMEOUT_S: Final = 3600.0

JSON = dict[str, Any]


def replay(
    request_id: Annotated[str, typer.Argument(help="The answer's `x-request-id`.")],
    site_file: SiteOption = QUICKSTART,
    socket: SocketOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a request again on the running server, where its text was kept.

    Exit codes: 0 byte-identical, 4 another answer, 5 it could not be run again.
    """
    site = load_site(site_file)
    found = search(site.var_dir / "audit", Wanted(kind="request", request_id=request_id))
    receipts = [one for one in found if one["request_id"] == request_id]
    why = _not_kept(receipts, request_id)
    runs: list[JSON] = []
    if why is None:
        client = AdminClient(socket or site.admin.socket)
        try:
            asked = {"request_id": request_id}
            runs = client.post("/admin/v1/replay", asked, TIMEOUT_S)["runs"]
        except RequestError as error:
            if error.code != "text_not_kept":
                raise
            why = "its text is not kept any more: it expired, or was erased"
    code = NOT_RUN if why is not None else _judged(runs, receipts)
    if as_json:
        print_json({"request_id": request_id, "exit_code": code, "why": why, "runs": runs})
    else:
        for line in [f"{request_id}: {why}"] if why is not None else lines(runs):
            say(line)
    sys.exit(code)


def _not_kept(receipts: list[JSON], request_id: str) -> str | None:
    if not receipts:
        return f"the audit log has no receipt of a request {request_id}"
    if not any(one["text"] for one in receipts):
        return (
            "its text was not kept: its tenant had not asked for that "
            "(`inhouse tenants set NAME --audit-text`), or there was no room for it"
        )
    return None


def _judged(runs: list[JSON], receipts: list[JSON]) -> int:
    """The exit code; what was kept is held against the log first."""
    known = {(one["prompt_sha256"], one["answer_sha256"]) for one in receipts if one["text"]}
    for run in runs:
        kept = (run["kept"]["prompt_sha256"], run["kept"]["answer_sha256"])
        if kept not in known:
            run["identical"] = False
            run["why"] = ["the kept text is not what the log's digests say: it was changed"]
    if all(run["identical"] for run in runs):
        return 0
    return DIFFERS if any(run["ran"] and not run["identical"] for run in runs) else NOT_RUN


def lines(runs: list[JSON]) -> list[str]:
    """What came of it, for a person."""
    told = []
    for run in runs:
        head = f"{run['request_id']} ({run['model']})"
        if run["identical"]:
            told.append(f"{head}: byte-identical")
        else:
            told.append(f"{head}: {'another answer' if run['ran'] else 'not run'}")
        told += [f"  {'although' if run['identical'] else 'because'} {one}" for one in run["why"]]
        if (where := run.get("first_difference")) is not None:
            told.append("  " + ", ".join(f"{name} {value!r}" for name, value in where.items()))
    return told
