"""`/admin/v1/adapters`: which are served and which are not, and the order to look again."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from serve.api.admin.ports import Adapters
from serve.core.errors import InhouseError, InvalidRequest, RequestError
from serve.pipeline import Pipeline
from serve.served import Served


def router(pipeline: Pipeline, adapters: Adapters, ready: Callable[[], None]) -> APIRouter:
    """`ready` raises Conflict while something else changes what is served."""
    routes = APIRouter()

    @routes.get("/admin/v1/adapters")
    async def told() -> dict[str, Any]:
        return _listed(pipeline)

    @routes.post("/admin/v1/adapters/rescan")
    async def rescan() -> dict[str, Any]:
        ready()
        try:
            changes = await adapters.rescan()
        except InhouseError as error:
            raise _refusal_of(error) from None
        return {**_listed(pipeline), "changes": changes}

    return routes


def _listed(pipeline: Pipeline) -> dict[str, Any]:
    """Each model that may have adapters: what it has, and what is refused of its folder."""
    return {
        "object": "list",
        "data": [_of_model(one, pipeline) for one in pipeline.served if one.model.adaptable],
    }


def _of_model(base: Served, pipeline: Pipeline) -> dict[str, Any]:
    folder = base.model.config.adapter_dir
    return {
        "model": base.id,
        "adapter_dir": None if folder is None else str(folder),
        "adapters": [
            {
                "id": one.id,
                "aliases": list(one.names[1:]),
                "digest": one.about["digest"],
                "rank": one.about["rank"],
                "in_hand": pipeline.gate.in_hand_of(one.id),
            }
            for one in base.adapters
        ],
        "refused": [
            {"path": str(path), "reason": reason} for path, reason in base.refused_adapters.items()
        ],
    }


def _refusal_of(error: InhouseError) -> RequestError:
    """One that a model file lists is wrong, which is the operator's to mend."""
    if isinstance(error, RequestError):
        return error
    return InvalidRequest(
        f"{error.message}; the adapters from before are still served", code="invalid_adapter"
    )
