from serve.admission.salt import Salts
from serve.core.roster import Roster, Tenant


def tenant(name: str, group: str | None = None) -> Tenant:
    return Tenant(name, 0.0, settings={"cache_group": group} if group else {})


def salts(secret: bytes, *tenants: Tenant) -> Salts:
    made = Salts()
    made.learn(Roster(1, {one.name: one for one in tenants}, salt_secret=secret))
    return made


def test_each_tenant_has_its_own_and_keeps_it() -> None:
    one = salts(b"s", tenant("a"), tenant("b"))
    assert len({one.of("a"), one.of("b"), one.of("unknown")}) == 3
    assert one.of("a") == salts(b"s", tenant("a")).of("a")
    assert len(one.of("a")) == 43


def test_a_group_shares_one_which_no_tenant_has() -> None:
    one = salts(b"s", tenant("a", "g"), tenant("b", "g"), tenant("g"), tenant("c", "h"))
    assert one.of("a") == one.of("b")
    assert len({one.of("a"), one.of("g"), one.of("c")}) == 3


def test_another_secret_is_another_salt() -> None:
    assert salts(b"s", tenant("a")).of("a") != salts(b"t", tenant("a")).of("a")


def test_who_joins_a_group_shares_from_then_on() -> None:
    one = salts(b"s", tenant("a"), tenant("b", "g"))
    before = one.of("a")
    one.learn(Roster(2, {"a": tenant("a", "g"), "b": tenant("b", "g")}, salt_secret=b"s"))
    assert before != one.of("a") == one.of("b")
