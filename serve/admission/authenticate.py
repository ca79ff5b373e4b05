"""Whose request is it? Keys come as `Authorization: Bearer` or `x-api-key`."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Final

from serve.core.call import Principal
from serve.core.errors import Unauthenticated

ANYONE: Final = Principal(key="none")
"""Who asks at a site whose `auth.mode` is `none`."""


class Authenticator:
    """Knows keys by their SHA-256 only (`digests`: hex digest → key name).

    Looking a digest up in a table leaks no more through its timing than a digest, which is
    of no use without a preimage.
    """

    def __init__(self, digests: Mapping[str, str], *, required: bool = True) -> None:
        self._within: dict[Principal, bytes] = {}
        self._known_within: dict[bytes, Principal] = {}
        self.learn(digests, required=required)

    def learn(self, digests: Mapping[str, str], *, required: bool) -> None:
        """Know these keys, and no others, from now on."""
        self._principals = {digest: Principal(key=name) for digest, name in digests.items()}
        self._required = required
        known = frozenset(self._principals.values())
        self._within = {who: key for who, key in self._within.items() if who in known}
        self._known_within = {key: who for who, key in self._within.items()}

    def key_within(self, principal: Principal) -> bytes:
        """A key for what this process asks of itself for a principal: nobody else has seen it.

        Raises Unauthenticated where the principal's own key has been withdrawn.
        """
        if self._required and principal not in self._principals.values():
            raise Unauthenticated(f"The key {principal.key!r}, which asked this, is known no more.")
        key = self._within.get(principal)
        if key is None:
            key = self._within[principal] = os.urandom(32).hex().encode()
            self._known_within[key] = principal
        return key

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """The principal of a request with these headers; raises Unauthenticated."""
        if not self._required:
            return ANYONE
        key = _key_of(headers)
        if key is None:
            raise Unauthenticated(
                "You didn't provide an API key. Send it as `Authorization: Bearer sk-…` or "
                "`x-api-key: sk-…`.",
                code="missing_api_key",
            )
        principal = self._principals.get(hashlib.sha256(key).hexdigest())
        if principal is None:
            principal = self._known_within.get(key)
        if principal is None:
            shown = key[:7].decode("latin-1")
            raise Unauthenticated(f"Incorrect API key provided: {shown}…")
        return principal


def _key_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    key = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            key = value.strip()
    return key or None
