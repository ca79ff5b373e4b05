"""Whose request is it, and is the key good for it? Keys come as `Authorization: Bearer` or
`x-api-key`."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from serve.core.call import Principal
from serve.core.errors import (
    KeyExpired,
    KeyRevoked,
    PermissionDenied,
    StorageUnavailable,
    Unauthenticated,
)
from serve.core.grant import Family
from serve.core.roster import Key, Roster

ANYONE: Final = Principal(key="none")
"""Who asks at a site whose `auth.mode` is `none`."""
SHOWN_CHARS: Final = 7
"""Of a key that nobody knows, repeated to who sent it."""


class Authenticator:
    """Knows keys by their SHA-256 only.

    Looking a digest up in a table leaks no more through its timing than a digest, which is
    of no use without a preimage. Nothing of a key decides how long it takes but its length.

    `starter` is a key that no database knows; `now_s` the time that keys expire by.
    """

    def __init__(
        self,
        roster: Roster | None = None,
        *,
        required: bool = True,
        starter: Key | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.required = required
        self._starter = starter
        self._now_s = now_s
        self._keys: dict[str, Key] | None = None
        """By digest; None until they are known."""
        self._live: dict[str, Key] = {}
        """By id, those that nobody has withdrawn."""
        self._named: dict[tuple[str, str], list[Key]] = {}
        self._principals: dict[str, Principal] = {}
        self._within: dict[Principal, bytes] = {}
        self._asked_within: dict[bytes, Principal] = {}
        if roster is not None:
            self.learn(roster)

    def learn(self, roster: Roster) -> frozenset[str]:
        """Know these keys, and no others, from now on; the ids of those that were withdrawn."""
        keys = roster.keys if self._starter is None else (*roster.keys, self._starter)
        self._keys = {key.sha256: key for key in keys}
        before = self._live
        self._live = {key.id: key for key in keys if key.revoked_s is None}
        self._principals = {key.id: key.principal for key in keys}
        self._named = {}
        for key in self._live.values():
            self._named.setdefault((key.tenant, key.name), []).append(key)
        return frozenset(before.keys() - self._live.keys())

    @property
    def known(self) -> bool:
        """Whether there is a key that will do."""
        now_s = self._now_s()
        return any(key.is_good(now_s) for key in self._live.values())

    def authenticate(
        self, headers: Iterable[tuple[bytes, bytes]], family: Family | None = None
    ) -> Principal:
        """The principal of a request with these headers.

        Raises Unauthenticated, PermissionDenied where its key is not good for the endpoints of
        `family`, and StorageUnavailable while keys are not known yet.
        """
        if not self.required:
            return ANYONE
        text = _key_of(headers)
        if text is None:
            raise Unauthenticated(
                "You didn't provide an API key. Send it as `Authorization: Bearer sk-…` or "
                "`x-api-key: sk-…`.",
                code="missing_api_key",
            )
        principal = self._principal_of(text)
        if family is not None:
            permit(principal, family)
        return principal

    def _principal_of(self, text: bytes) -> Principal:
        if self._keys is None:
            raise StorageUnavailable("this server starts and does not know its keys yet")
        key = self._keys.get(hashlib.sha256(text).hexdigest())
        if key is not None:
            self._refuse_ended(key)
            return self._principals[key.id]
        asking = self._asked_within.get(text)
        if asking is None:
            shown = text[:SHOWN_CHARS].decode("latin-1")
            raise Unauthenticated(f"Incorrect API key provided: {shown}…")
        return self.current(asking)

    def _refuse_ended(self, key: Key) -> None:
        if key.revoked_s is not None:
            raise revoked(key.name)
        if not key.is_good(self._now_s()):
            until = datetime.fromtimestamp(key.expires_s or 0, UTC).strftime("%Y-%m-%d %H:%M:%S")
            raise KeyExpired(f"The API key {key.name!r} expired at {until} UTC.")

    def current(self, principal: Principal) -> Principal:
        """The same as its keys are now: any good one of its name.

        Raises Unauthenticated where none is left.
        """
        if not self.required:
            return principal
        now_s = self._now_s()
        for key in self._named.get((principal.tenant, principal.key), ()):
            if key.is_good(now_s):
                return self._principals[key.id]
        raise Unauthenticated(f"The key {principal.key!r}, which asked this, is good no more.")

    def check(self, principal: Principal) -> None:
        """Raises KeyRevoked where the very key that asked has been withdrawn since."""
        if self.required and principal.id and principal.id not in self._live:
            raise revoked(principal.key)

    def key_within(self, principal: Principal) -> bytes:
        """A key for what this process asks of itself for a principal: nobody else has seen it.

        Raises Unauthenticated where the principal has no good key any more.
        """
        self.current(principal)
        key = self._within.get(principal)
        if key is None:
            key = self._within[principal] = os.urandom(32).hex().encode()
            self._asked_within[key] = principal
        return key


def permit(principal: Principal, family: Family) -> None:
    """Raises PermissionDenied where its key is not good for these endpoints."""
    if not principal.grant.permits(family):
        permitted = ", ".join(sorted(principal.grant.endpoints or ()))
        raise PermissionDenied(
            f"The API key {principal.key!r} is not good for the endpoint {family}; it is for: "
            f"{permitted}."
        )


def revoked(name: str) -> KeyRevoked:
    """What a client is told whose key has been withdrawn."""
    return KeyRevoked(f"The API key {name!r} has been revoked.")


def _key_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    key = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            key = value.strip()
    return key or None
