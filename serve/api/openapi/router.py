"""`GET /openapi.json`: for those who have a key, as everything is that is not for probes."""

import orjson
from fastapi import APIRouter, Request, Response
from starlette.routing import Route

from serve.admission.authenticate import Authenticator
from serve.api import query
from serve.api.openapi.document import document


def router(authenticator: Authenticator) -> APIRouter:
    routes = APIRouter()
    written: list[bytes] = []

    @routes.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        authenticator.authenticate(request.scope["headers"])
        query.only(request.scope)
        if not written:
            written.append(orjson.dumps(document(addresses(request.app.router.routes))))
        return Response(written[0], media_type="application/json")

    return routes


def addresses(routes: list[object]) -> list[tuple[str, str]]:
    """Method and path of each route, with path parameters as OpenAPI writes them."""
    return [
        (method, one.path_format)
        for one in routes
        if isinstance(one, Route)
        for method in sorted(one.methods or ())
        if method != "HEAD"
    ]
