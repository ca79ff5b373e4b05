"""What a site would do on a machine where nothing of it runs yet."""

import asyncio

from serve.catalogue import Catalogue
from serve.engines.backend import Backend
from serve.engines.fingerprint import engine_version
from serve.engines.foundry import Foundry
from serve.release.plan import Plan, Present, plan
from serve.release.workshop import LocalWorkshop
from serve.settings.model import ServedModel
from serve.settings.site import Site


async def from_nothing(site: Site, foundry: Foundry) -> Plan:
    """The plan of a first start.

    Raises SetupError or SettingsError where the site cannot be served on this machine.
    """
    defaults = site.engine_defaults
    portfolio = await asyncio.to_thread(
        foundry.portfolio, site.models, defaults, site.limits.waiting_requests
    )
    fake = defaults.kind == "fake"
    catalogue = Catalogue(site.var_dir, engine_version(defaults.kind), fake=fake)
    fingerprints = await asyncio.to_thread(
        lambda: {one.id: catalogue.fingerprint(one) for one in site.models}
    )
    workshop = LocalWorkshop(foundry, portfolio, catalogue, _unjoined)
    nothing = Present(site.model_copy(update={"models": ()}), {}, frozenset())
    return plan(nothing, site, fingerprints, await workshop.room(site))


def _unjoined(model: ServedModel, residents: object) -> Backend:
    raise AssertionError(f"{model.id} is only planned")
