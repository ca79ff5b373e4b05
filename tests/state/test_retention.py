"""What has expired goes, and all of a tenant that asks for it."""

from sqlalchemy import Connection, select

from serve.state.conversations import Conversations
from serve.state.records import Event
from serve.state.responses import Responses
from serve.state.retention import Retention
from serve.store.database import Database
from serve.store.tables import CONVERSATION_ITEMS, RESPONSE_EVENTS, RESPONSES
from tests.state.test_responses import NOW_S, record


def left(connection: Connection) -> tuple[set[str], set[str], set[str]]:
    return (
        set(connection.execute(select(RESPONSES.c.id)).scalars()),
        set(connection.execute(select(RESPONSE_EVENTS.c.response)).scalars()),
        set(connection.execute(select(CONVERSATION_ITEMS.c.conversation)).scalars()),
    )


async def test_sweep_and_erase(database: Database) -> None:
    responses, retention = Responses(database), Retention(database)
    conversations = Conversations(database, lambda _: 60.0, lambda: NOW_S)
    for name, tenant, expires_s in (("a", "t", NOW_S), ("b", "t", None), ("c", "u", NOW_S + 1)):
        await responses.put(record(name, tenant=tenant, expires_s=expires_s))
        await responses.append_events(name, [Event(0, b"x")])
        await conversations.add(tenant, f"conv_{name}", {}, [{"id": "msg"}])
    assert await retention.sweep(NOW_S) == 1
    every = {"conv_a", "conv_b", "conv_c"}
    assert await database.read(left) == ({"b", "c"}, {"b", "c"}, every)
    assert await retention.erase("t") == 3
    assert await database.read(left) == ({"c"}, {"c"}, {"conv_c"})
    assert await retention.sweep(NOW_S + 60) == 2
    assert await database.read(left) == (set(), set(), set())
