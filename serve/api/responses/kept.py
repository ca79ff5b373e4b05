"""Responses that are kept: read again, as a stream too, cancelled, deleted."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from serve.admission.authenticate import Authenticator
from serve.api import query
from serve.api.errors import body_of
from serve.api.fields import faults
from serve.api.objects import answer_of, list_of
from serve.core.call import Principal
from serve.core.errors import InvalidRequest, KeyRevoked
from serve.respond.background import Background
from serve.respond.ports import ResponseStore
from serve.state.page import Cut

JSON = dict[str, Any]

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_STREAMED = ("include", "stream", "starting_after", "include_obfuscation")
_NUMBER_MAX_DIGITS = 15


def router(
    responses: ResponseStore, background: Background, authenticator: Authenticator
) -> APIRouter:
    routes = APIRouter(prefix="/v1/responses")

    def tenant_of(request: Request) -> str:
        return authenticator.authenticate(request.scope["headers"], "responses").tenant

    @routes.get("/{response_id}")
    async def retrieve(request: Request, response_id: str) -> Response:
        principal = authenticator.authenticate(request.scope["headers"], "responses")
        after = _starting_after(request)
        if after is None:
            return answer_of((await responses.get(principal.tenant, response_id)).body)
        frames = _permitted(
            await background.follow(principal.tenant, response_id, after), authenticator, principal
        )
        return StreamingResponse(frames, media_type="text/event-stream", headers=_STREAM_HEADERS)

    @routes.delete("/{response_id}")
    async def delete(request: Request, response_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        await background.delete(tenant, response_id)
        return answer_of({"id": response_id, "object": "response", "deleted": True})

    @routes.post("/{response_id}/cancel")
    async def cancel(request: Request, response_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        return answer_of(await background.cancel(tenant, response_id))

    @routes.get("/{response_id}/input_items")
    async def input_items(request: Request, response_id: str) -> Response:
        tenant = tenant_of(request)
        cut = query.read_cut(request.scope, extra=("include",))
        query.many(request.scope, "include", query.INCLUDABLE)
        record = await responses.get(tenant, response_id)
        return answer_of(_page(record.items, cut))

    return routes


async def _permitted(
    frames: AsyncIterator[bytes], keys: Authenticator, principal: Principal
) -> AsyncIterator[bytes]:
    """The same for as long as nobody withdraws the key."""
    async for one in frames:
        try:
            keys.check(principal)
        except KeyRevoked as error:
            yield b"event: error\ndata: " + body_of(error) + b"\n\n"
            return
        yield one


def _starting_after(request: Request) -> int | None:
    """The number to stream from, None where the whole object is asked for."""
    scope = request.scope
    query.only(scope, _STREAMED)
    query.many(scope, "include", query.INCLUDABLE)
    stream = _flag(scope, "stream")
    _flag(scope, "include_obfuscation")
    after = query.one(scope, "starting_after")
    if after is None:
        return -1 if stream else None
    if not stream:
        raise faults.invalid("starting_after", "it is only allowed when 'stream' is true.")
    if not (after.isascii() and after.isdigit() and len(after) <= _NUMBER_MAX_DIGITS):
        raise faults.invalid(
            "starting_after", f"expected an integer, but got {faults.shown(after)} instead."
        )
    return int(after)


def _flag(scope: Any, name: str) -> bool:
    value = query.one(scope, name)
    if value not in (None, "true", "false"):
        raise faults.not_one_of(name, value, ("true", "false"))
    return value == "true"


def _page(items: tuple[JSON, ...], cut: Cut) -> JSON:
    ordered = list(items if cut.ascending else reversed(items))
    if cut.after is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == cut.after]
        if not places:
            raise InvalidRequest(
                f"No item with id {cut.after[:80]!r} is in this list.", param="after"
            )
        del ordered[: places[0] + 1]
    return list_of(ordered[: cut.limit], has_more=len(ordered) > cut.limit)
