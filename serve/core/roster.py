"""Who is known here, at one moment: tenants and their keys, as the stages share them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from serve.core.call import Principal
from serve.core.grant import EVERYTHING, Grant

DEFAULT_TENANT: Final = "default"
"""The tenant of who names none; it is always there."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """`limits` and `settings` are its own, as they are kept. Times are Unix seconds.

    `erasures` counts how often what it keeps has been erased; `held_s` is since when it is under
    a legal hold.
    """

    name: str
    created_s: float
    limits: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    erasures: int = 0
    held_s: float | None = None

    @property
    def cache_group(self) -> str | None:
        """The group of tenants with which it shares what engines have computed of prompts."""
        group: str | None = self.settings.get("cache_group")
        return group

    @property
    def audit_text(self) -> bool:
        """Whether its prompts and answers are kept beside the audit log."""
        return self.settings.get("audit_text") is True


@dataclass(frozen=True, slots=True)
class Key:
    """One secret, known by its digest. After a rotation two of them have the same name."""

    id: str
    tenant: str
    name: str
    sha256: str
    created_s: float
    expires_s: float | None = None
    revoked_s: float | None = None
    grant: Grant = EVERYTHING

    @property
    def principal(self) -> Principal:
        """Who asks with it."""
        return Principal(self.name, self.tenant, self.id, self.grant)

    def is_good(self, now_s: float) -> bool:
        """Whether it has neither been revoked nor expired."""
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)


@dataclass(frozen=True, slots=True)
class Roster:
    """`version` grows with every change; `salt_secret` is what cache salts are derived from."""

    version: int = -1
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    keys: tuple[Key, ...] = ()
    salt_secret: bytes = b""
