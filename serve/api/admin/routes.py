"""`/admin/v1/models`: what the models do, and orders to them."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from serve import __version__
from serve.api import errors
from serve.api.admin import adapters as adapters_of
from serve.api.admin import batches as batches_of
from serve.api.admin import release, replay
from serve.api.admin.audited import Audited
from serve.api.admin.bodies import OrderBody, body_of
from serve.api.admin.orders import KINDS, Kind, Orders
from serve.api.admin.ports import Adapters, Keeper, Releases
from serve.api.admin.report import Reporter
from serve.api.admin.tenancy import Tenancy
from serve.batch.office import Office
from serve.core.audit import NO_TRAIL, Trail
from serve.core.call import Principal
from serve.core.clock import Clock
from serve.core.errors import Conflict, InvalidRequest
from serve.pipeline import Pipeline
from serve.replay import Replays
from serve.served import Served

OPERATOR = Principal("operator")


class Desk:
    """The admin application, and what it has begun: `close` leaves that off."""

    def __init__(
        self,
        pipeline: Pipeline,
        keeper: Keeper,
        adapters: Adapters,
        releases: Releases | None,
        clock: Clock,
        office: Office | None = None,
        tenancy: Tenancy | None = None,
        trail: Trail = NO_TRAIL,
        replays: Replays | None = None,
    ) -> None:
        self._orders = Orders(keeper, clock)
        self._releases = releases
        reporter = Reporter(pipeline, keeper, self._orders, clock)
        app = FastAPI(
            title="Inhouse admin", version=__version__, openapi_url=None, redirect_slashes=False
        )
        errors.install(app)
        app.include_router(
            router(pipeline, keeper, reporter, self._orders, self._refuse_while_applying)
        )
        app.include_router(adapters_of.router(pipeline, adapters, self._refuse_while_applying))
        if office is not None:
            app.include_router(batches_of.router(office))
        if replays is not None:
            app.include_router(replay.router(replays))
        for one in tenancy.routers if tenancy is not None else ():
            app.include_router(one)
        app.include_router(release.router(releases, self._refuse_while_ordered))
        self.app: ASGIApp = errors.Guard(Audited(app, trail, "socket"))

    async def close(self) -> None:
        await self._orders.close()

    def _refuse_while_applying(self) -> None:
        file = self._releases.state()["applying"] if self._releases is not None else None
        if file is not None:
            raise Conflict(f"{file} is being applied; wait for its end")

    def _refuse_while_ordered(self) -> None:
        if (what := self._orders.under_way) is not None:
            raise Conflict(f"`{what}` is being carried out; wait for its end, then apply")


def router(
    pipeline: Pipeline,
    keeper: Keeper,
    reporter: Reporter,
    orders: Orders,
    ready: Callable[[], None],
) -> APIRouter:
    """`ready` raises Conflict while no order can be taken."""
    routes = APIRouter()

    @routes.get("/admin/v1/models")
    async def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": await reporter.models(),
            "memory": keeper.memory(),
            "draining": pipeline.gate.draining,
        }

    @routes.get("/admin/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return await reporter.model(model_named(pipeline, name))

    def order(kind: Kind) -> None:
        @routes.post(f"/admin/v1/models/{{name}}/{kind}")
        async def give(name: str, request: Request) -> JSONResponse:
            body = await body_of(request, OrderBody)
            served = model_named(pipeline, name)
            ready()
            await orders.give(kind, served.id, body.wait_s)
            answer = await reporter.model(served)
            return JSONResponse(answer, status_code=200 if answer["order"] is None else 202)

    for kind in KINDS:
        order(kind)
    return routes


def model_named(pipeline: Pipeline, name: str) -> Served:
    """A model by any of its names; raises ModelNotFound, and InvalidRequest for an adapter."""
    found = pipeline.resolve(name, OPERATOR)
    if not any(found is one for one in pipeline.served):
        base = next(one for one in pipeline.served if any(found is a for a in one.adapters))
        raise InvalidRequest(
            f"{name} is an adapter: it is loaded and stopped with its model, {base.id}",
            param="model",
        )
    return found
