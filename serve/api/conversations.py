"""`/v1/conversations`: items in their order, that turns read and add to."""

from typing import Any

from fastapi import APIRouter, Request, Response

from serve.admission.authenticate import Authenticator
from serve.api import query
from serve.api.body import JsonBodies
from serve.api.fields.conversations import (
    check_conversation,
    check_conversation_items,
    check_conversation_update,
)
from serve.api.objects import answer_of, deleted, list_of
from serve.core.ids import new_id
from serve.state.conversations import ConversationRecord, Conversations


def conversation_object(record: ConversationRecord) -> dict[str, Any]:
    """OpenAI's Conversation."""
    return {
        "id": record.id,
        "object": "conversation",
        "created_at": int(record.created_s),
        "metadata": record.metadata,
    }


def router(
    conversations: Conversations, authenticator: Authenticator, bodies: JsonBodies
) -> APIRouter:
    routes = APIRouter(prefix="/v1/conversations")

    def tenant_of(request: Request) -> str:
        return authenticator.authenticate(request.scope["headers"], "conversations").tenant

    @routes.post("")
    async def create(request: Request) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        items, metadata = check_conversation(await bodies.read(request, empty={}))
        conversation_id = new_id("conv")
        record = await conversations.add(tenant, conversation_id, metadata, items)
        return answer_of(conversation_object(record))

    @routes.get("/{conversation_id}")
    async def retrieve(request: Request, conversation_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        return answer_of(conversation_object(await conversations.get(tenant, conversation_id)))

    @routes.post("/{conversation_id}")
    async def update(request: Request, conversation_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        metadata = check_conversation_update(await bodies.read(request))
        record = await conversations.update(tenant, conversation_id, metadata)
        return answer_of(conversation_object(record))

    @routes.delete("/{conversation_id}")
    async def delete(request: Request, conversation_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        await conversations.delete(tenant, conversation_id)
        return answer_of(deleted("conversation", conversation_id))

    @routes.post("/{conversation_id}/items")
    async def add_items(request: Request, conversation_id: str) -> Response:
        tenant = tenant_of(request)
        _check_include(request)
        items = check_conversation_items(await bodies.read(request))
        await conversations.append(tenant, conversation_id, items)
        return answer_of(list_of(items, has_more=False))

    @routes.get("/{conversation_id}/items")
    async def list_items(request: Request, conversation_id: str) -> Response:
        tenant = tenant_of(request)
        cut = query.read_cut(request.scope, extra=("include",))
        query.many(request.scope, "include", query.INCLUDABLE)
        page = await conversations.page(tenant, conversation_id, cut)
        return answer_of(list_of(page.items, has_more=page.has_more))

    @routes.get("/{conversation_id}/items/{item_id}")
    async def retrieve_item(request: Request, conversation_id: str, item_id: str) -> Response:
        tenant = tenant_of(request)
        _check_include(request)
        return answer_of(await conversations.item(tenant, conversation_id, item_id))

    @routes.delete("/{conversation_id}/items/{item_id}")
    async def delete_item(request: Request, conversation_id: str, item_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        record = await conversations.delete_item(tenant, conversation_id, item_id)
        return answer_of(conversation_object(record))

    return routes


def _check_include(request: Request) -> None:
    """Items are shown with all that is kept of them, whatever else is asked for."""
    query.only(request.scope, ("include",))
    query.many(request.scope, "include", query.INCLUDABLE)
