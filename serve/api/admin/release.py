"""`/admin/v1/plan`, `/admin/v1/apply`, `/admin/v1/release`: from one site to another."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from serve.api.admin.bodies import SiteBody, body_of
from serve.api.admin.ports import Releases
from serve.api.errors import body_of as error_body
from serve.api.errors import internal
from serve.core.errors import Conflict, InhouseError, InvalidRequest, RequestError

log = logging.getLogger("inhouse.admin")

Event = Mapping[str, Any]


def router(releases: Releases | None, ready: Callable[[], None]) -> APIRouter:
    """`ready` raises Conflict while nothing may be applied; without releases nothing ever is."""
    routes = APIRouter()

    def there() -> Releases:
        if releases is None:
            raise Conflict("this server runs without a site file, so there is none to change")
        return releases

    @routes.get("/admin/v1/release")
    async def release() -> Event:
        return there().state()

    @routes.post("/admin/v1/plan")
    async def plan(request: Request) -> Event:
        site_file = (await body_of(request, SiteBody)).path
        try:
            return await there().plan(site_file)
        except InhouseError as error:
            raise refusal_of(error) from None

    @routes.post("/admin/v1/apply")
    async def apply(request: Request) -> Response:
        site_file = (await body_of(request, SiteBody)).path
        ready()
        events = there().apply(site_file)
        try:
            first = await anext(events)
        except InhouseError as error:
            raise refusal_of(error) from None
        return StreamingResponse(_lines(first, events), media_type="application/x-ndjson")

    return routes


def refusal_of(error: InhouseError) -> RequestError:
    """What is wrong with a site is the operator's to mend, and so told in full."""
    if isinstance(error, RequestError):
        return error
    return InvalidRequest(error.message, param="site_file", code="invalid_site")


async def _lines(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """An event a line; what ends an apply early is a line in the one error shape."""
    yield orjson.dumps(first) + b"\n"
    try:
        async for event in events:
            yield orjson.dumps(event) + b"\n"
    except InhouseError as error:
        yield error_body(refusal_of(error)) + b"\n"
    except Exception:
        log.exception("an apply failed")
        yield error_body(internal()) + b"\n"
