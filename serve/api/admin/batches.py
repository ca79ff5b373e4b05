"""`/admin/v1/batches`: everyone's batches, and the order to end one."""

from typing import Any, Final

from fastapi import APIRouter

from serve.batch.office import Office
from serve.state.batches import BatchRecord

SHOWN: Final = 100
"""Unfinished ones come first."""


def router(office: Office) -> APIRouter:
    routes = APIRouter()

    @routes.get("/admin/v1/batches")
    async def batches() -> dict[str, Any]:
        data = [_told(one) for one in await office.latest(SHOWN)]
        return {"object": "list", "data": data}

    @routes.post("/admin/v1/batches/{batch_id}/cancel")
    async def cancel(batch_id: str) -> dict[str, Any]:
        return _told(await office.cancel(None, batch_id))

    return routes


def _told(record: BatchRecord) -> dict[str, Any]:
    """The batch object, and whose it is."""
    return {**record.shown, "tenant": record.tenant, "key": record.key}
