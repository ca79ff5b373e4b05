"""`/health/live`, `/health/ready` and `/metrics`: for probes and scrapers, never a prompt's."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from serve.core.errors import EngineError
from serve.engines.backend import Backend
from serve.engines.client import EngineClient
from serve.engines.division import LABEL
from serve.engines.ensemble import locals_of, parts_of
from serve.metering.metrics import Metrics
from serve.metering.reexport import reexport
from serve.pipeline import Pipeline

SCRAPE_TIMEOUT_S = 2.0


def readiness(pipeline: Pipeline) -> dict[str, Any]:
    """Per model its state; `ready` once every model loaded at startup answers, and the server has
    opened what it keeps.

    One that then rests, because the plan needs its memory or nobody asks for it, counts as ready:
    the next request has it loaded.
    """
    models: dict[str, dict[str, Any]] = {}
    lacking = False
    for one in pipeline.served:
        status = one.backend.status
        # Not its last error: that may quote paths, and probes carry no key. The log has it.
        models[one.model.id] = {"state": status.state, "restarts": status.restarts}
        parts = parts_of(one.backend).values()
        if len(parts) > 1:
            models[one.model.id]["replicas"] = [part.status.state for part in parts]
        if one.model.load == "startup":
            lacking = lacking or not (status.state == "ready" or status.resting)
    gate = pipeline.gate
    ready = not (gate.draining or gate.opening or lacking)
    state = "draining" if gate.draining else "ready" if ready else "not_ready"
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
        pages = await asyncio.gather(
            *(
                _engine_page(f"{one.model.id}{LABEL}{number}" if number else one.model.id, part)
                for one in pipeline.served
                for number, part in locals_of(one.backend).items()
            )
        )
        engines = reexport({engine: page for engine, page in pages if page is not None})
        return Response(
            metrics.exposition() + engines.encode(),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )

    return routes


async def _engine_page(engine: str, backend: Backend) -> tuple[str, str | None]:
    client: EngineClient | None = backend.client
    if client is None:
        return engine, None
    try:
        status, page = await client.get("/metrics", SCRAPE_TIMEOUT_S)
    except (EngineError, TimeoutError):
        return engine, None
    return engine, page.decode() if status == 200 else None
