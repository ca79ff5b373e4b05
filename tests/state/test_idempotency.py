"""Keys of requests that are run once, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve.core.errors import InFlight, StorageUnavailable
from serve.settings.idempotency import Idempotency
from serve.state.folder import Folder
from serve.state.gateways import Gateways
from serve.state.idempotency import TRIM_EVERY, Claim, IdempotencyKeys, Result
from serve.state.retention import Retention
from serve.store.database import Database
from tests.state.clock import Clock

RESULT = Result("d" * 64, 10, 200, [("content-type", "application/json")], b"{}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gateways(database: Database, tmp_path: Path) -> AsyncIterator[Gateways]:
    one = Gateways(database, tmp_path / "var")
    await one.enter()
    yield one
    await one.leave()


def keys_of(
    database: Database, owner: str, clock: Clock, settings: Idempotency | None = None
) -> IdempotencyKeys:
    return IdempotencyKeys(database, owner, settings or Idempotency(), clock)


@pytest.fixture
def keys(database: Database, gateways: Gateways, clock: Clock) -> IdempotencyKeys:
    return keys_of(database, gateways.id, clock)


async def claimed(keys: IdempotencyKeys, tenant: str = "t", key: str = "k") -> Claim:
    found = await keys.claim(tenant, key)
    assert isinstance(found, Claim)
    return found


async def test_one_of_many_runs_it_and_the_others_get_its_result(keys: IdempotencyKeys) -> None:
    asked = await asyncio.gather(*(keys.claim("t", "k") for _ in range(50)), return_exceptions=True)
    (claim,) = [one for one in asked if isinstance(one, Claim)]
    assert sum(isinstance(one, InFlight) for one in asked) == 49
    await keys.finish(claim, RESULT)
    assert await keys.claim("t", "k") == RESULT


async def test_keys_are_a_tenants_own(keys: IdempotencyKeys) -> None:
    first = await claimed(keys)
    await keys.finish(first, RESULT)
    assert await claimed(keys, "u") != first
    assert await claimed(keys, "t", "other") != first


async def test_a_released_key_is_free(keys: IdempotencyKeys) -> None:
    await keys.release(await claimed(keys))
    assert await claimed(keys)


async def test_a_key_ends(keys: IdempotencyKeys, clock: Clock) -> None:
    await keys.finish(await claimed(keys), RESULT)
    clock.now_s += 24 * 3600 - 1
    assert await keys.claim("t", "k") == RESULT
    clock.now_s += 1
    assert await claimed(keys)


async def test_a_killed_servers_key_is_not_stuck(
    keys: IdempotencyKeys, database: Database, clock: Clock
) -> None:
    dead = keys_of(database, "gw_dead", clock)
    was = await claimed(dead)
    assert await claimed(keys) == was
    # The one that was thought dead is late: what it made is not taken for the result.
    await dead.finish(was, RESULT)
    with pytest.raises(InFlight):
        await keys.claim("t", "k")


async def test_a_living_servers_key_is_left_to_it(
    keys: IdempotencyKeys, database: Database, clock: Clock
) -> None:
    await claimed(keys)
    with pytest.raises(InFlight):
        await keys_of(database, "gw_other", clock).claim("t", "k")


async def test_what_could_not_be_told_is_run_again(
    keys: IdempotencyKeys, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await claimed(keys)

    async def fails(_: object) -> None:
        raise StorageUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(database, "write", fails)
        with pytest.raises(StorageUnavailable):
            await keys.finish(claim, RESULT)
    assert await claimed(keys) == claim
    with pytest.raises(InFlight):
        await keys.claim("t", "k")


async def test_no_more_are_kept_than_the_bound(
    database: Database, gateways: Gateways, clock: Clock
) -> None:
    keys = keys_of(database, gateways.id, clock, Idempotency(tenant_keys=100))
    for number in range(2 * TRIM_EVERY + 1):
        await keys.finish(await claimed(keys, "t", f"k{number}"), RESULT)
    assert await claimed(keys, "t", "k0"), "the oldest has gone"
    assert await keys.claim("t", "k100") == RESULT


async def test_erasure_takes_results_with_it_for_good(
    keys: IdempotencyKeys, database: Database, tmp_path: Path
) -> None:
    await keys.finish(await claimed(keys), RESULT)
    running = await claimed(keys, "t", "runs")
    erased = await Retention(database, Folder(tmp_path / "files")).erase("t")
    assert erased["idempotency_keys"] == 2
    await keys.finish(running, RESULT)
    assert await claimed(keys, "t", "runs")
