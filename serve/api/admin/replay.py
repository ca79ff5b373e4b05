"""`/admin/v1/replay`: a request again, whose text was kept."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from serve.api.admin.bodies import StrictBody, body_of
from serve.replay import Replays


class ReplayBody(StrictBody):
    """Which request."""

    request_id: Annotated[str, Field(min_length=1, max_length=80)]


def router(replays: Replays) -> APIRouter:
    routes = APIRouter()

    @routes.post("/admin/v1/replay")
    async def replay(request: Request) -> dict[str, Any]:
        body = await body_of(request, ReplayBody)
        return {"object": "replay", "runs": await replays.replay(body.request_id)}

    return routes
