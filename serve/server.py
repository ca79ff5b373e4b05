"""A composed site: what is started, drained and stopped with it, in which order."""

import logging
from dataclasses import dataclass

from starlette.types import ASGIApp

from serve.admission.steady import JUMPED_S, boot_id
from serve.api.admin.routes import Desk
from serve.batch.office import Office
from serve.core.errors import SettingsError, SetupError, StorageUnavailable
from serve.engines.ensemble import remotes_of
from serve.engines.portfolio import Portfolio
from serve.kept import Kept
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline
from serve.release.adapters import Adapters
from serve.release.apply import Release
from serve.respond.background import Background
from serve.settings.site import Site
from serve.toolservers.workbench import Workbench

log = logging.getLogger("inhouse")


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
    kept: Kept
    office: Office
    background: Background
    workbench: Workbench
    release: Release | None = None

    async def start(self) -> None:
        """Open what is kept, and begin loading the engines.

        Raises SetupError, and SettingsError where keys are required and there is none.
        """
        gate = self.pipeline.gate
        gate.opening = True
        self.kept.storage.claim()
        await self.kept.audit.open(self.site)
        for one in self.pipeline.served:
            for remote in remotes_of(one.backend):
                remote.start()
        # They take the longest. Nobody is let in to them before keys and ledger are there.
        await self.portfolio.start()
        await self.kept.storage.open()
        await self._know()
        await self.kept.ledger.open()
        self.kept.audit.crashed(self.kept.ledger.left_open)
        await self._count_on()
        await self.office.open()
        await self.background.resume()
        gate.opening = False
        self.kept.storage.gateways.subscribe(self.office.resume)
        self.kept.storage.gateways.subscribe(self.background.resume)

    async def _know(self) -> None:
        """Learn the keys, by the clock of this start of the machine."""
        book, steady = self.kept.storage.quotas, self.kept.steady
        try:
            steady.hold(await book.anchor(boot_id(), steady.anchor))
            await self.kept.directory.open()
        except StorageUnavailable as error:
            raise SetupError(f"state.database: {error.message}") from error
        keys = self.pipeline.keys
        if keys.required and not keys.known:
            raise without_keys("FILE" if self.release is None else str(self.release.site_file))

    async def _count_on(self) -> None:
        """Go on with the quotas where the last server left them."""
        book, steady = self.kept.storage.quotas, self.kept.steady
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
        await self.kept.audit.finish()
        await self.kept.ledger.close()
        await self.kept.storage.quotas.end(self.pipeline.entrance.quotas)
        await self.kept.directory.close()
        await self.kept.storage.close()
        await self.kept.audit.close()


def without_keys(site_file: str) -> SettingsError:
    """Nobody could ask anything."""
    return SettingsError(
        f"no key yet, and auth.mode is `keys`; make one: inhouse keys add NAME --site {site_file}"
    )
