"""`/v1/chat/completions` by id: the chat completions that were stored."""

from fastapi import APIRouter, Request, Response

from serve.admission.authenticate import Authenticator
from serve.api import query
from serve.api.body import JsonBodies
from serve.api.fields.metadata import check_chat_update
from serve.api.objects import answer_of, deleted, list_of
from serve.core.errors import InvalidRequest
from serve.state.completions import Completions, Wanted
from serve.state.page import Cut
from serve.state.records import JSON


def router(completions: Completions, authenticator: Authenticator, bodies: JsonBodies) -> APIRouter:
    routes = APIRouter(prefix="/v1/chat/completions")

    def tenant_of(request: Request) -> str:
        return authenticator.authenticate(request.scope["headers"], "chat").tenant

    @routes.get("")
    async def list_completions(request: Request) -> Response:
        tenant, scope = tenant_of(request), request.scope
        cut = query.read_cut(scope, extra=("model", "metadata"), ascending=True)
        wanted = Wanted(query.one(scope, "model"), query.mapping(scope, "metadata"))
        page = await completions.page(tenant, cut, wanted)
        return answer_of(list_of(page.completions, has_more=page.has_more))

    @routes.get("/{completion_id}")
    async def retrieve(request: Request, completion_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        return answer_of(await completions.get(tenant, completion_id))

    @routes.post("/{completion_id}")
    async def update(request: Request, completion_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        metadata = check_chat_update(await bodies.read(request))
        return answer_of(await completions.update(tenant, completion_id, metadata))

    @routes.delete("/{completion_id}")
    async def delete(request: Request, completion_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        await completions.delete(tenant, completion_id)
        return answer_of(deleted("chat.completion", completion_id))

    @routes.get("/{completion_id}/messages")
    async def list_messages(request: Request, completion_id: str) -> Response:
        tenant = tenant_of(request)
        cut = query.read_cut(request.scope, ascending=True)
        messages = await completions.messages(tenant, completion_id)
        page, has_more = _cut(messages, cut)
        return answer_of(list_of(page, has_more=has_more))

    return routes


def _cut(messages: tuple[JSON, ...], cut: Cut) -> tuple[tuple[JSON, ...], bool]:
    """The page of them that is meant, and whether others follow."""
    ordered = messages if cut.ascending else messages[::-1]
    begin = 0
    if cut.after is not None:
        begin = next((n for n, one in enumerate(ordered, 1) if one["id"] == cut.after), 0)
        if not begin:
            raise InvalidRequest(
                f"No message with id {cut.after[:80]!r} is in this list.", param="after"
            )
    end = begin + cut.limit
    return ordered[begin:end], len(ordered) > end
