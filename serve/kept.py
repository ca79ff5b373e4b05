"""What a site keeps, put together: its database, its ledger and its audit log."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from serve import __version__
from serve.admission.steady import SteadyClock
from serve.admission.tenants import TenantLimits
from serve.audit.keeping import TextKeeper
from serve.audit.receipt import Receipts, crashed
from serve.audit.trail import AuditTrail
from serve.core.audit import NO_TRAIL, Trail
from serve.core.clock import Clock, SystemClock
from serve.core.errors import SettingsError
from serve.core.ledger import Opened
from serve.metering.ledger import DiskLedger
from serve.metering.metrics import Metrics
from serve.settings.prices import Pricing
from serve.settings.site import Site
from serve.state.directory import Directory
from serve.state.storage import Storage


def trail_of(site: Site, clock: Clock) -> AuditTrail | None:
    """The site's audit log, not open yet; None where it has none."""
    return AuditTrail(site.var_dir / "audit", site.audit, clock) if site.audit.enabled else None


async def record_refusal(site: Site, error: SettingsError) -> None:
    """Write down that a site was not served, and why. Raises SetupError."""
    trail = trail_of(site, SystemClock())
    if trail is not None:
        await trail.open()
        trail.record("server.refused", {"site": site.site, "error": error.message})
        await trail.close()


@dataclass(frozen=True)
class Log:
    """The audit log of a site, with the receipts in it, where it has them."""

    trail: AuditTrail | None = None
    receipts: Receipts | None = None

    @property
    def records(self) -> Trail:
        """What to write in; where the site has no audit log, nothing comes of it."""
        return self.trail or NO_TRAIL

    async def open(self, site: Site) -> None:
        """Raises SetupError."""
        if self.trail is not None:
            await self.trail.open()
            said = {"site": site.site, "version": __version__, "pid": os.getpid()}
            self.trail.record("server.started", said)

    def crashed(self, opened: Iterable[Opened]) -> None:
        """Write down what an earlier process had open when it ended."""
        if self.trail is None or self.receipts is None:
            return
        for one in opened:
            if one.request_id not in self.trail.receipts:
                self.trail.record("request", crashed(one))

    async def finish(self) -> None:
        """Every request has ended: write the receipts that are being made."""
        if self.receipts is not None:
            await self.receipts.close()

    async def close(self) -> None:
        """Nothing more happens."""
        if self.trail is not None:
            self.trail.record("server.stopped", {"pid": os.getpid()})
            await self.trail.close()


@dataclass(frozen=True)
class Kept:
    """None of it open yet. `limits` are the tenants', as the `directory` knows them; `steady` is
    the clock that quotas and keys go by."""

    storage: Storage
    directory: Directory
    limits: TenantLimits
    steady: SteadyClock
    ledger: DiskLedger
    audit: Log


def kept(site: Site, clock: Clock, metrics: Metrics) -> Kept:
    """What this site keeps. Raises SetupError for a database's address that is none."""
    storage = Storage(site.state, site.var_dir, site.files, site.idempotency)
    steady = SteadyClock(clock)
    limits = TenantLimits(site.limits.each_tenant)
    directory = limits.own = Directory(storage.database, steady.now_s, lambda: limits.everyone)
    ledger = DiskLedger(site.var_dir / "ledger", storage.usage, Pricing(site.prices), clock)
    metrics.ledger_now = ledger.state
    trail = trail_of(site, clock)
    receipts = None
    if trail is not None:
        metrics.audit_now = trail.state
        if site.audit.requests:
            receipts = Receipts(trail, TextKeeper(storage.texts), directory.text_begun)
    return Kept(storage, directory, limits, steady, ledger, Log(trail, receipts))
