"""`/health/live`, `/health/ready` and `/metrics`: for probes and scrapers, never a prompt's."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from serve.core.errors import EngineError
from serve.engines.client import EngineClient
from serve.metering.metrics import Metrics
from serve.metering.reexport import reexport
from serve.pipeline import Pipeline, Served

SCRAPE_TIMEOUT_S = 2.0


def readiness(pipeline: Pipeline) -> dict[str, Any]:
    """Per model its state; `ready` once every model loaded at startup answers."""
    models = {}
    for one in pipeline.served:
        status = one.backend.status
        # Not its last error: that may quote paths, and probes carry no key. The log has it.
        models[one.model.id] = {"state": status.state, "restarts": status.restarts}
    ready = not pipeline.gate.draining and all(
        models[one.model.id]["state"] == "ready"
        for one in pipeline.served
        if one.model.load == "startup"
    )
    state = "draining" if pipeline.gate.draining else "ready" if ready else "not_ready"
    return {"status": state, "models": models}


def router(pipeline: Pipeline, metrics: Metrics) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @routes.get("/health/ready")
    async def ready() -> JSONResponse:
        body = readiness(pipeline)
        return JSONResponse(body, status_code=200 if body["status"] == "ready" else 503)

    @routes.get("/metrics")
    async def scrape() -> Response:
        pages = await asyncio.gather(*(_engine_page(one) for one in pipeline.served))
        engines = reexport({model: page for model, page in pages if page is not None})
        return Response(
            metrics.exposition() + engines.encode(),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )

    return routes


async def _engine_page(one: Served) -> tuple[str, str | None]:
    client: EngineClient | None = one.backend.client
    if client is None:
        return one.model.id, None
    try:
        status, page = await client.get("/metrics", SCRAPE_TIMEOUT_S)
    except (EngineError, TimeoutError):
        return one.model.id, None
    return one.model.id, page.decode() if status == 200 else None
