"""Tenants and keys on both databases: what changes counts at once here, and soon elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from serve.core.errors import Conflict, InvalidRequest, NotFound
from serve.core.grant import Grant
from serve.core.roster import Key, Roster
from serve.settings.keys import digest_of
from serve.settings.limits import Limits
from serve.settings.tenants import Scopes, TenantTerms
from serve.state import tenancy
from serve.state.directory import Directory
from serve.state.tenancy import KeyRef
from serve.store.address import address_of
from serve.store.database import Database

CHAT = Scopes(models=("small",), endpoints=("chat",), admin=True)
LAB = TenantTerms.model_validate({"limits": {"weight": 2}, "settings": {"cache_group": "g"}})


class Now:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def directory(database: Database, now: Now) -> AsyncIterator[Directory]:
    one = Directory(database, now)
    await one.open()
    yield one
    await one.close()


def ref(key: Key) -> KeyRef:
    return KeyRef(key.id)


async def test_a_new_database_has_one_tenant_and_a_secret_of_its_own(
    directory: Directory, tmp_path: Path
) -> None:
    assert list(directory.roster.tenants) == ["default"]
    other = Database(address_of(f"sqlite:///{tmp_path}/other.db", tmp_path))
    other.open()
    secrets = {(await other.read(tenancy.roster_of)).salt_secret, directory.roster.salt_secret}
    other.close()
    assert len(secrets) == 2
    assert {len(one) for one in secrets} == {32}


async def test_a_key_is_kept_by_its_digest_only(directory: Directory, database: Database) -> None:
    key, secret = await directory.add_key("default", "ci", CHAT, 2000.0)
    assert key.sha256 == digest_of(secret)
    assert key.grant == Grant(("small",), frozenset({"chat"}), admin=True)
    assert directory.roster.keys == (key,) == tuple(await directory.keys())
    rows = await database.read(lambda c: c.execute(text("SELECT * FROM api_keys")).all())
    assert secret not in str(rows)
    assert secret.removeprefix("sk-") not in str(rows)


async def test_every_change_is_told_at_once(directory: Directory) -> None:
    told: list[Roster] = []
    directory.subscribe(told.append)
    key, _ = await directory.add_key("default", "ci", Scopes(), None)
    await directory.revoke_key(ref(key))
    await directory.remove_key(ref(key))
    assert [[one.revoked_s for one in each.keys] for each in told] == [[None], [1000.0], []]
    assert [each.version for each in told] == [1, 2, 3]


async def test_another_server_knows_within_a_second(
    directory: Directory, database_url: str, tmp_path: Path, now: Now
) -> None:
    elsewhere = Database(address_of(database_url, tmp_path))
    elsewhere.open()
    other = Directory(elsewhere, now)
    told: asyncio.Queue[Roster] = asyncio.Queue()
    directory.subscribe(told.put_nowait)
    try:
        key, _ = await other.add_key("default", "ci", Scopes(), None)
        assert key in (await asyncio.wait_for(told.get(), 1)).keys
        await other.revoke_key(ref(key))
        assert (await asyncio.wait_for(told.get(), 1)).keys[0].revoked_s is not None
    finally:
        elsewhere.close()
    assert directory.roster == other.roster


async def test_names_are_for_one_good_key_of_a_tenant(directory: Directory, now: Now) -> None:
    await directory.add_tenant("lab", TenantTerms())
    first, _ = await directory.add_key("default", "ci", Scopes(), 1500.0)
    await directory.add_key("lab", "ci", Scopes(), None)
    with pytest.raises(Conflict, match="has a key named ci already"):
        await directory.add_key("default", "ci", Scopes(), None)
    now.s = 1500.0
    second, _ = await directory.add_key("default", "ci", Scopes(), None)
    await directory.revoke_key(KeyRef("ci"))
    assert [(one.id, one.revoked_s) for one in await directory.keys("default")] == [
        (first.id, 1500.0), (second.id, 1500.0),
    ]  # fmt: skip
    assert [one.revoked_s for one in await directory.keys("lab")] == [None]
    with pytest.raises(InvalidRequest, match="for ids"):
        await directory.add_key("default", "key_1", Scopes(), None)


async def test_a_rotation_leaves_the_old_one_good_for_a_while(
    directory: Directory, now: Now
) -> None:
    old, secret = await directory.add_key("default", "ci", CHAT, None)
    now.s = 1001.0
    new, other = await directory.rotate_key(KeyRef("ci"), overlap_s=60)
    assert secret != other
    assert (new.name, new.grant, new.expires_s) == ("ci", old.grant, None)
    before, after = await directory.keys()
    assert (before.id, before.expires_s) == (old.id, 1061.0)
    assert after == new
    now.s = 1061.0
    assert not before.is_good(now())
    await directory.rotate_key(KeyRef("ci"), overlap_s=0, expires_s=5000.0)
    third = next(one for one in await directory.keys() if one.id not in (old.id, new.id))
    assert [one.revoked_s for one in await directory.keys()][:2] == [None, 1061.0]
    assert (third.revoked_s, third.expires_s) == (None, 5000.0)


async def test_a_rotation_makes_nothing_good_for_longer(directory: Directory, now: Now) -> None:
    await directory.add_key("default", "ci", Scopes(), 1010.0)
    new, _ = await directory.rotate_key(KeyRef("ci"), overlap_s=60)
    assert [one.expires_s for one in await directory.keys()] == [1010.0, 1010.0]
    now.s = 1010.0
    for name in (KeyRef("ci"), ref(new)):
        with pytest.raises(Conflict, match="not good any more"):
            await directory.rotate_key(name, overlap_s=60)


async def test_what_does_not_exist_or_is_over(directory: Directory) -> None:
    for ask in (
        directory.revoke_key(KeyRef("ci")), directory.remove_key(KeyRef("key_0")),
        directory.rotate_key(KeyRef("' OR 1=1 --"), 0), directory.keys("lab"),
        directory.add_key("lab", "ci", Scopes(), None), directory.tenant("lab"),
        directory.set_tenant("lab", LAB), directory.remove_tenant("lab"),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            await ask
    with pytest.raises(InvalidRequest, match="is over"):
        await directory.add_key("default", "ci", Scopes(), 999.0)
    assert directory.roster.version == 0, "what is refused changes nothing"


async def test_tenants_come_change_and_go(directory: Directory) -> None:
    lab = await directory.add_tenant("lab", LAB)
    assert (lab.limits, lab.cache_group) == ({"weight": 2.0}, "g")
    assert directory.limits_of("lab") == {"weight": 2.0}
    terms = TenantTerms.model_validate({"limits": {"choices": 1}})
    changed = await directory.set_tenant("lab", terms)
    assert (changed.limits, changed.cache_group) == ({"choices": 1}, "g")
    await directory.add_key("lab", "ci", Scopes(), None)
    await directory.remove_tenant("lab")
    assert list(directory.roster.tenants) == ["default"]
    assert directory.roster.keys == ()
    assert directory.limits_of("lab") is directory.limits_of("nobody")
    with pytest.raises(Conflict, match=r"was a tenant lab already.*not given twice"):
        await directory.add_tenant("lab", LAB)
    with pytest.raises(Conflict, match="is a tenant default already"):
        await directory.add_tenant("default", LAB)
    with pytest.raises(Conflict, match="cannot be removed"):
        await directory.remove_tenant("default")


async def test_a_tenant_that_has_not_changed_is_the_same(directory: Directory) -> None:
    await directory.add_tenant("lab", LAB)
    before = directory.limits_of("lab")
    await directory.add_tenant("other", TenantTerms())
    assert directory.limits_of("lab") is before


async def test_limits_that_do_not_go_with_the_site_s(database: Database, now: Now) -> None:
    everyone = Limits.model_validate({"budget": {"money_soft": 80, "money_hard": 100}})
    directory = Directory(database, now, lambda: everyone)
    low = TenantTerms.model_validate({"limits": {"budget": {"money_hard": 50}}})
    with pytest.raises(InvalidRequest, match=r"do not go with the site's.*it would never warn"):
        await directory.add_tenant("lab", low)


async def test_changes_at_once_are_all_kept(directory: Directory) -> None:
    made = await asyncio.gather(
        *(directory.add_key("default", f"k{n}", Scopes(), None) for n in range(20))
    )
    assert {key.id for key, _ in made} == {key.id for key in directory.roster.keys}
    same = await asyncio.gather(
        *(directory.add_key("default", "same", Scopes(), None) for _ in range(5)),
        return_exceptions=True,
    )
    assert [type(one) for one in same].count(Conflict) == 4


async def test_their_number_is_bounded(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenancy, "KEYS_MAX", 1)
    await directory.add_key("default", "a", Scopes(), None)
    with pytest.raises(Conflict, match="the most a site may have"):
        await directory.add_key("default", "b", Scopes(), None)
