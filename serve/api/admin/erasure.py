"""`/admin/v1/tenants/{name}/erase` and `…/holds`: the end of what a tenant keeps, and its delay."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from serve.api import query
from serve.api.admin.bodies import StrictBody, body_of
from serve.state.directory import Directory
from serve.state.erasure import Eraser
from serve.state.holds import Hold
from serve.state.retention import KEPT

JSON = dict[str, Any]

Reason = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]


class HoldBody(StrictBody):
    """`reason`: why the hold is set, or lifted; a case's number, perhaps."""

    reason: Reason


class NoBody(StrictBody):
    """Nothing is to be said."""


def router(directory: Directory, eraser: Eraser) -> APIRouter:
    routes = APIRouter(prefix="/admin/v1/tenants")

    @routes.post("/{name}/erase")
    async def erase(name: str, request: Request) -> JSON:
        await body_of(request, NoBody)
        erased = await eraser.erase(name)
        return {
            "object": "tenant.erasure",
            "tenant": name,
            "erased": {kind: erased.objects.get(kind, 0) for kind in KEPT},
            "stopped": dict(erased.stopped),
        }

    @routes.get("/{name}/holds")
    async def holds(name: str, request: Request) -> JSON:
        query.only(request.scope)
        return {"object": "list", "data": [hold_object(h) for h in await directory.holds(name)]}

    @routes.post("/{name}/hold")
    async def hold(name: str, request: Request) -> JSON:
        body = await body_of(request, HoldBody)
        return hold_object(await directory.hold(name, body.reason))

    @routes.post("/{name}/lift")
    async def lift(name: str, request: Request) -> JSON:
        body = await body_of(request, HoldBody)
        return hold_object(await directory.lift(name, body.reason))

    return routes


def hold_object(hold: Hold) -> JSON:
    """A legal hold; `lifted_at` is null while it stands."""
    return {
        "object": "tenant.legal_hold",
        "tenant": hold.tenant,
        "reason": hold.reason,
        "set_at": int(hold.set_s),
        "lifted_at": None if hold.lifted_s is None else int(hold.lifted_s),
        "lifted_reason": hold.lifted_reason,
    }
