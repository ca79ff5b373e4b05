"""Records on both databases: each once, summed for budgets, grouped for reports."""

import asyncio

import pytest

from serve.core.errors import NotFound
from serve.core.ledger import Closed, Opened, Settled
from serve.core.usage import Usage
from serve.state.usage import Asked, UsageRecords
from serve.store.database import Database

DAY = 20_000
NOON_S = DAY * 86_400 + 43_200.0


def record(
    number: int, *, tenant: str = "acme", model: str = "m", day: int = 0, cost: int | None = 7
) -> Settled:
    opened = Opened(f"req_{number}", tenant, "k", "chat.completions", model, "default",
                    NOON_S + day * 86_400)  # fmt: skip
    closed = Closed("ok", model, "fp", "stop", Usage(10, 5, 4, 1), 0.1, 0.2, 0.3)
    return Settled(number, opened, closed, cost)


async def test_a_record_that_is_added_twice_counts_once(database: Database) -> None:
    records = UsageRecords(database)
    await records.add([record(1), record(2)])
    await records.add([record(2), record(3)])
    await records.add([record(1)])
    (row,) = await records.grouped(("tenant",), Asked(DAY, DAY))
    assert row == {
        "tenant": "acme", "requests": 3, "prompt": 30, "cached": 12, "completion": 15,
        "reasoning": 3, "cost_nano": 21, "unpriced": 0,
    }  # fmt: skip
    assert list(await records.totals(DAY)) == [("acme", DAY, 45, 21)]


async def test_servers_that_add_at_once_lose_nothing(database: Database) -> None:
    records = UsageRecords(database)
    groups = [
        [record(100 * g + n, tenant=f"t{n % 3}", day=n % 2) for n in range(30)] for g in range(8)
    ]
    await asyncio.gather(*(records.add(group) for group in groups))
    totals = list(await records.totals(DAY))
    assert sum(tokens for _, _, tokens, _ in totals) == 240 * 15
    assert {(tenant, day) for tenant, day, _, _ in totals} == {
        (f"t{n % 3}", DAY + n % 2) for n in range(6)
    }


async def test_groups_and_days(database: Database) -> None:
    records = UsageRecords(database)
    await records.add(
        [
            record(1),
            record(2, model="n", day=1, cost=None),
            record(3, tenant="b", day=1),
            record(4, tenant="b", day=5),
        ]
    )
    rows = await records.grouped(("tenant", "model", "day"), Asked(DAY, DAY + 1))
    assert [(row["tenant"], row["model"], row["day"], row["unpriced"]) for row in rows] == [
        ("acme", "m", DAY, 0), ("acme", "n", DAY + 1, 1), ("b", "m", DAY + 1, 0),
    ]  # fmt: skip
    (only,) = await records.grouped(("tenant",), Asked(DAY, DAY + 9, "b"))
    assert only["requests"] == 2
    assert sorted(await records.totals(DAY + 1)) == [
        ("acme", DAY + 1, 15, 0), ("b", DAY + 1, 15, 7), ("b", DAY + 5, 15, 7),
    ]  # fmt: skip


async def test_one_request_is_found_by_its_tenant_alone(database: Database) -> None:
    records = UsageRecords(database)
    await records.add([record(1)])
    (row,) = await records.of_request("acme", "req_1")
    assert (row["outcome"], row["prompt"], row["fingerprint"]) == ("ok", 10, "fp")
    with pytest.raises(NotFound):
        await records.of_request("other", "req_1")


async def test_what_was_added_can_be_put_on_the_disk(database: Database) -> None:
    records = UsageRecords(database)
    await records.sync()
    await records.add([record(1)])
    await records.sync()
    assert list(await records.totals(DAY))
