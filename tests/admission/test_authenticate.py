from collections.abc import Iterable
from dataclasses import replace

import pytest

from serve.admission.authenticate import Authenticator, permit
from serve.admission.steady import SteadyClock
from serve.core.errors import (
    KeyExpired,
    KeyRevoked,
    PermissionDenied,
    StorageUnavailable,
    Unauthenticated,
)
from serve.core.grant import Grant
from serve.core.roster import Key, Roster
from serve.settings.keys import digest_of

DAY_S = 86_400.0
ONE = Key("key_1", "lab", "one", digest_of("sk-one"), created_s=1.0)
HEADERS = [(b"x-api-key", b"sk-one")]
WRONG: list[bytes] = [
    b"sk-one ".replace(b"o", b"0"),
    b"' OR 1=1 --",
    b'"; DROP TABLE api_keys; --',
    b"sk-%",
    b"key_1",
    b"one",
    b"k" * 10_240,
    b"\x00\x01\xff",
    "sk-ключ".encode(),
    b"..",
    b"{}",
]


def knowing(*keys: Key) -> Authenticator:
    return Authenticator(Roster(1, keys=keys))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer sk-one")],
        [(b"authorization", b"bearer  sk-one ")],
        [(b"x-api-key", b"sk-one")],
        [(b"x-api-key", b"sk-wrong"), (b"authorization", b"Bearer sk-one")],
    ],
)
def test_a_known_key(headers: Iterable[tuple[bytes, bytes]]) -> None:
    principal = knowing(ONE).authenticate(headers)
    assert (principal.key, principal.tenant, principal.id) == ("one", "lab", "key_1")


@pytest.mark.parametrize(
    "headers", [[], [(b"authorization", b"Basic c2s=")], [(b"x-api-key", b"")]]
)
def test_no_key(headers: Iterable[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        knowing(ONE).authenticate(headers)
    assert caught.value.code == "missing_api_key"


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_wrong_key_is_refused_and_not_repeated_whole(wrong: bytes) -> None:
    for headers in ([(b"authorization", b"Bearer " + wrong)], [(b"x-api-key", wrong)]):
        with pytest.raises(Unauthenticated) as caught:
            knowing(ONE).authenticate(headers)
        assert caught.value.code == "invalid_api_key"
        assert len(caught.value.message) < 50


def test_a_site_without_keys() -> None:
    assert Authenticator(required=False).authenticate([]).key == "none"


def test_until_its_keys_are_known_it_says_that_it_starts() -> None:
    with pytest.raises(StorageUnavailable, match="starts"):
        Authenticator().authenticate(HEADERS)


def test_the_starter_key_is_known_beside_the_others() -> None:
    starter = Key("starter", "default", "starter", digest_of("sk-first"), created_s=0.0)
    one = Authenticator(starter=starter)
    assert not one.known
    one.learn(Roster(1))
    assert one.known
    assert one.authenticate([(b"x-api-key", b"sk-first")]).key == "starter"


def test_a_key_is_good_for_its_endpoints_alone() -> None:
    one = knowing(replace(ONE, grant=Grant(endpoints=frozenset({"chat", "files"}))))
    principal = one.authenticate(HEADERS, "chat")
    permit(principal, "files")
    with pytest.raises(PermissionDenied, match=r"for the endpoint embeddings.*chat, files"):
        one.authenticate(HEADERS, "embeddings")
    assert one.authenticate(HEADERS) == principal, "what every key may do"


def test_a_revoked_key_says_so_and_is_told_once() -> None:
    one = knowing(ONE)
    principal = one.authenticate(HEADERS)
    one.check(principal)
    gone = replace(ONE, revoked_s=5.0)
    assert one.learn(Roster(2, keys=(gone,))) == {"key_1"}
    assert one.learn(Roster(3, keys=(gone,))) == frozenset()
    for ask in (lambda: one.authenticate(HEADERS), lambda: one.check(principal)):
        with pytest.raises(KeyRevoked, match="'one' has been revoked"):
            ask()


def test_a_removed_key_is_one_that_was_never_there() -> None:
    one = knowing(ONE)
    assert one.learn(Roster(2)) == {"key_1"}
    with pytest.raises(Unauthenticated, match="Incorrect"):
        one.authenticate(HEADERS)


class Clock:
    """Whose wall clock somebody sets."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.set_by_s = 0.0

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def wall_s(self) -> float:
        return 1e9 + self.elapsed_s + self.set_by_s


@pytest.mark.parametrize("set_by_s", [DAY_S, -DAY_S])
def test_an_hour_is_an_hour_however_the_clock_is_set(set_by_s: float) -> None:
    clock = Clock()
    steady = SteadyClock(clock)
    key = replace(ONE, expires_s=steady.now_s() + 3600)
    one = Authenticator(Roster(1, keys=(key,)), now_s=steady.now_s)
    clock.set_by_s = set_by_s
    clock.elapsed_s = 3599
    assert one.authenticate(HEADERS).key == "one", "it does not end early"
    clock.elapsed_s = 3601
    for again_by_s in (set_by_s, -set_by_s, 0.0):
        clock.set_by_s = again_by_s
        with pytest.raises(KeyExpired, match=r"'one' expired at 2001-09-09 02:46:40 UTC"):
            one.authenticate(HEADERS)
    assert not one.known


def test_what_a_key_has_begun_goes_on_after_it_expired() -> None:
    one = Authenticator(Roster(1, keys=(replace(ONE, expires_s=10.0),)), now_s=lambda: 5.0)
    principal = one.authenticate(HEADERS)
    one._now_s = lambda: 11.0
    one.check(principal)
    with pytest.raises(Unauthenticated, match="good no more"):
        one.current(principal)


def test_a_key_within_is_of_no_use_once_its_principal_s_own_is_withdrawn() -> None:
    one = knowing(ONE)
    principal = one.authenticate(HEADERS)
    within = one.key_within(principal)
    assert one.key_within(principal) == within
    asking = [(b"authorization", b"Bearer " + within)]
    assert one.authenticate(asking) == principal
    with pytest.raises(Unauthenticated):
        knowing(ONE).authenticate(asking)
    one.learn(Roster(2))
    with pytest.raises(Unauthenticated, match="good no more"):
        one.key_within(principal)
    with pytest.raises(Unauthenticated):
        one.authenticate(asking)


def test_a_key_within_has_the_scopes_that_its_principal_s_own_has_now() -> None:
    one = knowing(ONE)
    within = [(b"x-api-key", one.key_within(one.authenticate(HEADERS)))]
    rotated = replace(ONE, id="key_2", sha256="0" * 64, grant=Grant(endpoints=frozenset({"chat"})))
    one.learn(Roster(2, keys=(rotated,)))
    assert one.authenticate(within, "chat").id == "key_2"
    with pytest.raises(PermissionDenied):
        one.authenticate(within, "completions")
