"""Which tenants find each other's prompts in an engine's cache. Pure.

An engine that has computed a prompt answers the next one that begins like it sooner, and so tells
whoever measures that somebody asked it. vLLM keeps caches apart by a salt; each tenant, or group of
tenants that share on purpose, has its own, which nobody can guess.
"""

import base64
import hashlib
import hmac

from serve.core.roster import Roster


class Salts:
    """The salts of all tenants, derived from the site's secret."""

    def __init__(self) -> None:
        self._roster = Roster()
        self._known: dict[str, str] = {}

    def learn(self, roster: Roster) -> None:
        """Derive them from this secret and these groups from now on."""
        self._roster, self._known = roster, {}

    def of(self, tenant: str) -> str:
        """43 characters; the same for as long as the tenant stays in its group."""
        known = self._known.get(tenant)
        if known is None:
            known = self._known[tenant] = self._derived(tenant)
        return known

    def _derived(self, tenant: str) -> str:
        there = self._roster.tenants.get(tenant)
        group = None if there is None else there.cache_group
        whose = f"tenant:{tenant}" if group is None else f"group:{group}"
        digest = hmac.digest(self._roster.salt_secret, whose.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
