"""`/admin/v1/tenants` and `/admin/v1/keys`: who may use this server, and for what.

They are on the operator's socket, and on the public port for keys with the admin scope.
"""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve import __version__
from serve.admission.authenticate import Authenticator
from serve.api import errors, query
from serve.api.admin import erasure
from serve.api.admin.audited import PRINCIPAL, Audited
from serve.api.admin.bodies import StrictBody, body_of
from serve.core.audit import NO_TRAIL, Trail
from serve.core.errors import InvalidRequest, RequestError
from serve.core.roster import DEFAULT_TENANT, Key, Tenant
from serve.settings.limits import Limits
from serve.settings.tenants import (
    Expiry,
    Lasting,
    Name,
    Overlap,
    Scopes,
    TenantSettings,
    TenantTerms,
)
from serve.state.directory import Directory
from serve.state.erasure import Eraser
from serve.state.tenancy import KeyRef

JSON = dict[str, Any]


class TermsBody(StrictBody):
    """Changes of a tenant: each part that is there takes the place of what was."""

    limits: Limits = Limits()
    settings: TenantSettings = TenantSettings()

    @property
    def terms(self) -> TenantTerms:
        """What of it was said."""
        said = {part: getattr(self, part) for part in ("limits", "settings")}
        return TenantTerms(**{p: v for p, v in said.items() if p in self.model_fields_set})


class TenantBody(TermsBody):
    name: Name


class ExpiringBody(StrictBody):
    """`expires_at` is in Unix seconds; `expires_in_s` counts from now, by the server's clock."""

    expires_at: Expiry | None = None
    expires_in_s: Lasting | None = None

    def expires_s(self, now_s: float) -> float | None:
        """Raises InvalidRequest where both are said."""
        if self.expires_in_s is None:
            return self.expires_at
        if self.expires_at is not None:
            raise InvalidRequest("Give expires_at or expires_in_s, not both.", param="expires_at")
        return now_s + self.expires_in_s


class KeyBody(ExpiringBody):
    name: Name
    tenant: Name = DEFAULT_TENANT
    scopes: Scopes = Scopes()


class RotateBody(ExpiringBody):
    overlap_s: Overlap = 0.0


class Tenancy:
    """The routes, as an application of their own and for another to include."""

    def __init__(
        self, directory: Directory, eraser: Eraser, trail: Trail = NO_TRAIL, via: str = "http"
    ) -> None:
        app = FastAPI(
            title="Inhouse admin", version=__version__, openapi_url=None, redirect_slashes=False
        )
        errors.install(app)
        self.routers = (
            erasure.router(directory, eraser), _tenants(directory, eraser), _keys(directory)
        )  # fmt: skip
        for one in self.routers:
            app.include_router(one)
        self.app: ASGIApp = errors.Guard(Audited(app, trail, via))


class AdminDoor:
    """Lets those in whose key has the admin scope; to others it is an unknown address."""

    def __init__(self, app: ASGIApp, admin: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._admin = admin
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            principal = self._authenticator.authenticate(scope["headers"])
            admin = principal.grant.admin
            scope[PRINCIPAL] = principal
        except RequestError:
            admin = False
        await (self._admin if admin else self._app)(scope, receive, send)


def _tenants(directory: Directory, eraser: Eraser) -> APIRouter:
    routes = APIRouter(prefix="/admin/v1/tenants")

    @routes.get("")
    async def tenants(request: Request) -> JSON:
        query.only(request.scope)
        return _list(map(tenant_object, await directory.tenants()))

    @routes.post("")
    async def add(request: Request) -> JSON:
        body = await body_of(request, TenantBody)
        return tenant_object(await directory.add_tenant(body.name, body.terms))

    @routes.get("/{name}")
    async def tenant(name: str) -> JSON:
        return tenant_object(await directory.tenant(name))

    @routes.post("/{name}")
    async def change(name: str, request: Request) -> JSON:
        body = await body_of(request, TermsBody)
        return tenant_object(await directory.set_tenant(name, body.terms))

    @routes.delete("/{name}")
    async def remove(name: str) -> JSON:
        gone = await directory.remove_tenant(name)
        erased = await eraser.erase(name)
        objects = sum(erased.objects.values())
        return {"object": "tenant", "name": gone.name, "deleted": True, "objects": objects}

    return routes


def _keys(directory: Directory) -> APIRouter:
    routes = APIRouter(prefix="/admin/v1/keys")

    def named(request: Request, key: str) -> KeyRef:
        query.only(request.scope, ("tenant",))
        return KeyRef(key, query.one(request.scope, "tenant") or DEFAULT_TENANT)

    def told(keys: list[Key]) -> JSON:
        return _list(key_object(one, directory.now_s()) for one in keys)

    def made(key: Key, text: str) -> JSON:
        return {**key_object(key, directory.now_s()), "key": text}

    @routes.get("")
    async def keys(request: Request) -> JSON:
        query.only(request.scope, ("tenant",))
        return told(await directory.keys(query.one(request.scope, "tenant")))

    @routes.post("")
    async def add(request: Request) -> JSON:
        body = await body_of(request, KeyBody)
        until_s = body.expires_s(directory.now_s())
        return made(*await directory.add_key(body.tenant, body.name, body.scopes, until_s))

    @routes.post("/{key}/revoke")
    async def revoke(key: str, request: Request) -> JSON:
        return told(await directory.revoke_key(named(request, key)))

    @routes.post("/{key}/rotate")
    async def rotate(key: str, request: Request) -> JSON:
        ref = named(request, key)
        body = await body_of(request, RotateBody)
        until_s = body.expires_s(directory.now_s())
        return made(*await directory.rotate_key(ref, body.overlap_s, until_s))

    @routes.delete("/{key}")
    async def remove(key: str, request: Request) -> JSON:
        return told(await directory.remove_key(named(request, key)))

    return routes


def tenant_object(tenant: Tenant) -> JSON:
    """A tenant, with what it has of its own."""
    return {
        "object": "tenant",
        "name": tenant.name,
        "created_at": int(tenant.created_s),
        "limits": dict(tenant.limits),
        "settings": dict(tenant.settings),
        "held_since": None if tenant.held_s is None else int(tenant.held_s),
    }


def key_object(key: Key, now_s: float) -> JSON:
    """A key without its text, which nobody knows."""
    status = "good" if key.is_good(now_s) else "expired" if key.revoked_s is None else "revoked"
    endpoints = key.grant.endpoints
    return {
        "object": "api_key",
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "status": status,
        "created_at": int(key.created_s),
        "expires_at": None if key.expires_s is None else int(key.expires_s),
        "revoked_at": None if key.revoked_s is None else int(key.revoked_s),
        "scopes": {
            "models": None if key.grant.models is None else list(key.grant.models),
            "endpoints": None if endpoints is None else sorted(endpoints),
            "admin": key.grant.admin,
        },
    }


def _list(objects: Iterable[JSON]) -> JSON:
    return {"object": "list", "data": list(objects)}
