"""A composed site: what is started, drained and stopped with it, in which order."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import ASGIApp

from serve import __version__
from serve.admission.steady import JUMPED_S, SteadyClock, boot_id
from serve.api.admin.routes import Desk
from serve.audit.receipt import Receipts, crashed
from serve.audit.trail import AuditTrail
from serve.batch.office import Office
from serve.core.clock import Clock, SystemClock
from serve.core.errors import SettingsError, SetupError, StorageUnavailable
from serve.core.ledger import Opened
from serve.engines.ensemble import remotes_of
from serve.engines.portfolio import Portfolio
from serve.metering.ledger import DiskLedger
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline
from serve.release.adapters import Adapters
from serve.release.apply import Release
from serve.respond.background import Background
from serve.settings.site import Site
from serve.state.directory import Directory
from serve.state.storage import Storage
from serve.toolservers.workbench import Workbench

log = logging.getLogger("inhouse")


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
class Server:
    """A composed site: the ASGI application and what must be started and stopped with it."""

    site: Site
    asgi: ASGIApp
    portfolio: Portfolio
    pipeline: Pipeline
    metrics: Metrics
    adapters: Adapters
    desk: Desk
    storage: Storage
    office: Office
    background: Background
    workbench: Workbench
    ledger: DiskLedger
    steady: SteadyClock
    directory: Directory
    audit: Log
    release: Release | None = None

    async def start(self) -> None:
        """Open what is kept, and begin loading the engines.

        Raises SetupError, and SettingsError where keys are required and there is none.
        """
        gate = self.pipeline.gate
        gate.opening = True
        self.storage.claim()
        await self.audit.open(self.site)
        for one in self.pipeline.served:
            for remote in remotes_of(one.backend):
                remote.start()
        # They take the longest. Nobody is let in to them before keys and ledger are there.
        await self.portfolio.start()
        await self.storage.open()
        await self._know()
        await self.ledger.open()
        self.audit.crashed(self.ledger.left_open)
        await self._count_on()
        await self.office.open()
        await self.background.resume()
        gate.opening = False
        self.storage.gateways.subscribe(self.office.resume)
        self.storage.gateways.subscribe(self.background.resume)

    async def _know(self) -> None:
        """Learn the keys, by the clock of this start of the machine."""
        book, steady = self.storage.quotas, self.steady
        try:
            steady.hold(await book.anchor(boot_id(), steady.anchor))
            await self.directory.open()
        except StorageUnavailable as error:
            raise SetupError(f"state.database: {error.message}") from error
        keys = self.pipeline.keys
        if keys.required and not keys.known:
            raise without_keys("FILE" if self.release is None else str(self.release.site_file))

    async def _count_on(self) -> None:
        """Go on with the quotas where the last server left them."""
        book, steady = self.storage.quotas, self.steady
        try:
            await book.begin(self.pipeline.entrance.quotas, steady.now_s())
        except StorageUnavailable as error:
            raise SetupError(f"state.database: {error.message}") from error
        if abs(steady.astray_s) > JUMPED_S:
            log.warning(
                "the machine's clock was set while it ran; quotas count on by the time elapsed",
                extra={"ahead_s": round(steady.astray_s)},
            )

    async def drain(self) -> None:
        """Refuse new work and let what runs end by the deadline."""
        self.pipeline.gate.drain()
        await self.office.close()
        site = self.site if self.release is None else self.release.site
        await self.pipeline.finish(site.engine_defaults.drain_timeout_s)
        await self.background.close()

    async def stop(self) -> None:
        """Stop every engine, and what an apply has under way."""
        await self.office.close()
        if self.release is not None:
            await self.release.close()
        for one in self.pipeline.served:
            for remote in remotes_of(one.backend):
                await remote.stop()
        await self.portfolio.stop()
        await self.workbench.close()
        await self.audit.finish()
        await self.ledger.close()
        await self.storage.quotas.end(self.pipeline.entrance.quotas)
        await self.directory.close()
        await self.storage.close()
        await self.audit.close()


def without_keys(site_file: str) -> SettingsError:
    """Nobody could ask anything."""
    return SettingsError(
        f"no key yet, and auth.mode is `keys`; make one: inhouse keys add NAME --site {site_file}"
    )
