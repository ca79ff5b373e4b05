import hashlib

import pytest

from serve.admission.authenticate import Authenticator
from serve.core.errors import Unauthenticated

KEY = b"sk-one"
AUTHENTICATOR = Authenticator({hashlib.sha256(KEY).hexdigest(): "one"})


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer sk-one")],
        [(b"authorization", b"bearer  sk-one ")],
        [(b"x-api-key", b"sk-one")],
        [(b"x-api-key", b"sk-wrong"), (b"authorization", b"Bearer sk-one")],
    ],
)
def test_a_known_key(headers: list[tuple[bytes, bytes]]) -> None:
    assert AUTHENTICATOR.authenticate(headers).key == "one"


@pytest.mark.parametrize(
    "headers", [[], [(b"authorization", b"Basic c2s=")], [(b"x-api-key", b"")]]
)
def test_no_key(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        AUTHENTICATOR.authenticate(headers)
    assert caught.value.code == "missing_api_key"


def test_a_wrong_key_is_not_repeated_whole() -> None:
    with pytest.raises(Unauthenticated) as caught:
        AUTHENTICATOR.authenticate([(b"authorization", b"Bearer sk-wrong-secret")])
    assert caught.value.code == "invalid_api_key"
    assert "secret" not in caught.value.message


def test_a_site_without_keys() -> None:
    assert Authenticator({}, required=False).authenticate([]).key == "none"


def test_a_key_within_is_of_no_use_once_its_principal_s_own_is_withdrawn() -> None:
    digest = hashlib.sha256(KEY).hexdigest()
    one = Authenticator({digest: "one"})
    principal = one.authenticate([(b"x-api-key", KEY)])
    within = one.key_within(principal)
    assert one.key_within(principal) == within
    assert one.authenticate([(b"authorization", b"Bearer " + within)]) == principal
    with pytest.raises(Unauthenticated):
        AUTHENTICATOR.authenticate([(b"authorization", b"Bearer " + within)])
    one.learn({}, required=True)
    with pytest.raises(Unauthenticated, match="known no more"):
        one.key_within(principal)
    with pytest.raises(Unauthenticated):
        one.authenticate([(b"authorization", b"Bearer " + within)])
    one.learn({digest: "one"}, required=True)
    assert one.authenticate([(b"x-api-key", one.key_within(principal))]) == principal
