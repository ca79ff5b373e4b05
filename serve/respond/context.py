"""What the model is to read for one turn: the history, its own items, and what fits of them."""

from collections.abc import Sequence
from typing import Any, Final

from serve.admission.context import ContextGuard
from serve.core.errors import ContextLengthExceeded, InvalidRequest, NotFound
from serve.respond.asked import Asked
from serve.respond.items import response_id_of
from serve.respond.ports import ConversationStore, ResponseStore
from serve.respond.prompt import messages_of, texts_of

JSON = dict[str, Any]

TEMPLATE_TOKENS: Final = 8
"""Of a message, in most chat templates; the engine counts them, and refuses what is too long."""
ROOM_PART: Final = 8
"""One part in so many of the context is left to an answer whose length nobody bounded."""
_OUTPUTS: Final = {
    "function_call_output": "function_call",
    "custom_tool_call_output": "custom_tool_call",
}


async def history_of(
    asked: Asked, tenant: str, responses: ResponseStore, conversations: ConversationStore
) -> tuple[JSON, ...]:
    """The items before this turn's.

    Raises InvalidRequest for a previous response that is not there, or not whole, and NotFound
    for a conversation.
    """
    if asked.conversation is not None:
        return await conversations.items(tenant, asked.conversation)
    previous = asked.previous_response_id
    if previous is None:
        return ()
    try:
        return await responses.history(tenant, previous)
    except NotFound:
        raise InvalidRequest(
            f"Previous response with id '{previous[:80]}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        ) from None


async def own_items(
    asked: Asked, tenant: str, history: Sequence[JSON], responses: ResponseStore
) -> tuple[JSON, ...]:
    """This turn's items, references replaced by what they mean.

    One that means an item of the history adds nothing: the model reads that already. Raises
    InvalidRequest for what cannot be found, and for an item that its conversation has already.
    """
    known = {item["id"] for item in history if "id" in item}
    found: list[JSON] = []
    for item in asked.items:
        if item["type"] == "item_reference":
            if item["id"] not in known:
                found.append(await _referred(item["id"], tenant, responses))
            continue
        if asked.conversation is not None and item.get("id") in known:
            raise InvalidRequest(
                f"Item with id '{item['id'][:80]}' is in this conversation already.", param="input"
            )
        found.append(item)
    return tuple(found)


async def _referred(item_id: str, tenant: str, responses: ResponseStore) -> JSON:
    response_id = response_id_of(item_id)
    if response_id is not None:
        try:
            record = await responses.get(tenant, response_id)
        except NotFound:
            pass
        else:
            for item in record.body["output"]:
                if item["id"] == item_id:
                    found: JSON = item
                    return found
    raise InvalidRequest(f"Item with id '{item_id[:80]}' not found.", param="input")


async def fitting(
    asked: Asked, items: Sequence[JSON], guard: ContextGuard, context_tokens: int, drop: int = 0
) -> tuple[list[JSON], int]:
    """The messages for the model, and how many of the oldest items they leave out.

    At least `drop` are. Raises ContextLengthExceeded where what may be left out is not enough.
    """
    if not asked.truncate:
        messages = messages_of(asked.instructions, items)
        await guard.check(texts_of(messages), asked.max_output_tokens, "input")
        return messages, 0
    # The newest item always stays. What must go is found by halving: each look counts tokens.
    high = max(0, len(items) - 1)
    low = min(drop, high)
    messages = _without(asked, items, low)
    if await _fits(asked, messages, guard, context_tokens):
        return messages, low
    while low < high:
        middle = (low + high) // 2
        if await _fits(asked, _without(asked, items, middle), guard, context_tokens):
            high = middle
        else:
            low = middle + 1
    messages = _without(asked, items, low)
    await guard.check(texts_of(messages), asked.max_output_tokens, "input")
    return messages, low


def _without(asked: Asked, items: Sequence[JSON], drop: int) -> list[JSON]:
    """The messages without so many of the oldest items, and without outputs of calls in them.

    A client may use a call id again: an output is that of the last such call before it.
    """
    gone = {(item["type"], item["call_id"]) for item in items[:drop] if "call_id" in item}
    unsaid = {item["id"] for item in items[:drop] if item["type"] == "mcp_approval_request"}
    left = []
    for item in items[drop:]:
        gone.discard((item["type"], item.get("call_id")))
        if (_OUTPUTS.get(item["type"]), item.get("call_id")) in gone:
            continue
        if item["type"] == "mcp_approval_response" and item["approval_request_id"] in unsaid:
            continue
        left.append(item)
    return messages_of(asked.instructions, left)


async def _fits(
    asked: Asked, messages: list[JSON], guard: ContextGuard, context_tokens: int
) -> bool:
    answer = asked.max_output_tokens or context_tokens // ROOM_PART
    tools = [str(tool) for tool in asked.engine_body.get("tools", ())]
    reserved = answer + TEMPLATE_TOKENS * (len(messages) + 1)
    try:
        await guard.check(texts_of(messages) + tools, reserved, "input")
    except ContextLengthExceeded:
        return False
    return True
