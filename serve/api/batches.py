"""`/v1/batches`: files of requests, run beside everything else."""

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Request, Response

from serve.admission.authenticate import Authenticator, permit
from serve.api import query
from serve.api.body import JsonBodies
from serve.api.fields.batches import check_batch
from serve.api.objects import answer_of, list_of
from serve.batch.office import Office
from serve.core.grant import Family

_FAMILIES: Final[Mapping[str, Family]] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
}
"""What a key must be for so that a batch may ask it."""


def router(office: Office, authenticator: Authenticator, bodies: JsonBodies) -> APIRouter:
    routes = APIRouter(prefix="/v1/batches")

    def tenant_of(request: Request) -> str:
        return authenticator.authenticate(request.scope["headers"], "batches").tenant

    @routes.post("")
    async def create(request: Request) -> Response:
        principal = authenticator.authenticate(request.scope["headers"], "batches")
        query.only(request.scope)
        asked = check_batch(await bodies.read(request))
        if (family := _FAMILIES.get(asked.endpoint)) is not None:
            permit(principal, family)
        return answer_of((await office.create(principal, asked)).shown)

    @routes.get("")
    async def list_batches(request: Request) -> Response:
        tenant = tenant_of(request)
        page = await office.page(tenant, query.read_cut(request.scope))
        return answer_of(list_of([one.shown for one in page.batches], has_more=page.has_more))

    @routes.get("/{batch_id}")
    async def retrieve(request: Request, batch_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        return answer_of((await office.get(tenant, batch_id)).shown)

    @routes.post("/{batch_id}/cancel")
    async def cancel(request: Request, batch_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        return answer_of((await office.cancel(tenant, batch_id)).shown)

    return routes
