"""Background responses that an earlier process has left unfinished."""

from typing import Any

from serve.core.errors import RequestError
from serve.respond.events import Answer
from serve.respond.kept import asked_of
from serve.respond.ports import ResponseStore
from serve.respond.run import Turns
from serve.respond.turn import Turn
from serve.respond.wire import BEGINNINGS, ENDS, end_of, event_of, frame, output_of
from serve.state.records import Event, ResponseRecord

JSON = dict[str, Any]


def has_output(sent: list[bytes]) -> bool:
    """Whether somebody may have seen what another run would say in another way."""
    return any(event_of(one)["type"] not in BEGINNINGS for one in sent)


async def turn_again(record: ResponseRecord, sent: list[bytes], turns: Turns) -> Turn:
    """The turn once more; its events go on after those that were sent. Raises RequestError."""
    try:
        asked, principal, request_id = asked_of(record)
    except (KeyError, TypeError):
        raise RequestError("this response was begun by another version of the server") from None
    answer = Answer(asked, record.id, record.created_s, number=len(sent))
    principal = turns.pipeline.keys.current(principal)
    return await turns.prepare(asked, principal, request_id, answer=answer)


async def close(
    record: ResponseRecord, sent: list[bytes], error: RequestError, responses: ResponseStore
) -> None:
    """Keep it as ended: as its last event said, where there was one, or else as failed."""
    events = [event_of(one) for one in sent]
    told = [one for one in events if one["type"] in ENDS]
    if told:
        final = told[-1].get("response") or {**record.body, "status": "cancelled"}
    else:
        final = {
            **record.body,
            "status": "failed",
            "output": output_of(events),
            "error": {"code": "server_error", "message": error.message},
        }
    ended = ResponseRecord(
        record.id, record.tenant, record.created_s, record.expires_s, final,
        record.items, record.previous_id, record.conversation, record.background,
    )  # fmt: skip
    await responses.put(ended)
    if not told:
        end = Event(len(sent), _end_frame(final, len(sent)))
        await responses.append_events(record.id, [end])


def missing_end(sent: list[bytes], record: ResponseRecord) -> list[bytes]:
    """The last event, where the server ended between keeping the response and that."""
    if sent and event_of(sent[-1])["type"] in ENDS:
        return []
    return [_end_frame(record.body, len(sent))]


def _end_frame(final: JSON, number: int) -> bytes:
    kind, fields = end_of(final)
    return frame({"type": kind, "sequence_number": number, **fields})
