"""The composition root: the one place that picks concrete parts and joins them."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from serve import __version__
from serve import log as logs
from serve.admission.authenticate import Authenticator
from serve.admission.entrance import Entrance
from serve.admission.gate import Gate
from serve.admission.quotas import Quotas
from serve.admission.salt import Salts
from serve.admission.tenants import Budgets
from serve.api import (
    batches,
    conversations,
    errors,
    files,
    health,
    models,
    openapi,
    responses,
    stored,
    uploads,
)
from serve.api.addresses import posted
from serve.api.admin.keeper import PortfolioKeeper
from serve.api.admin.routes import Desk
from serve.api.admin.tenancy import AdminDoor, Tenancy
from serve.api.body import JsonBodies
from serve.api.embeddings import EmbeddingsEndpoint
from serve.api.envelope import Envelope
from serve.api.generate import ChatEndpoint, CompletionsEndpoint
from serve.api.idempotency import once
from serve.api.inside import Inside
from serve.api.messages import CountTokensEndpoint, MessagesEndpoint
from serve.api.responses import CompactEndpoint, InputTokensEndpoint, ResponsesEndpoint
from serve.api.scores import RerankEndpoint, ScoreEndpoint
from serve.api.tokens import DetokenizeEndpoint, TokenizeEndpoint
from serve.batch.course import Workplace
from serve.batch.lanes import Lanes
from serve.batch.office import Office
from serve.batch.ports import ENDPOINTS
from serve.batch.traffic import PipelineTraffic
from serve.catalogue import Catalogue
from serve.core.audit import Trail
from serve.core.clock import Clock, SystemClock
from serve.core.roster import DEFAULT_TENANT, Key, Roster
from serve.engines.backend import Backend
from serve.engines.ensemble import joined, remotes_of
from serve.engines.fingerprint import engine_version
from serve.engines.portfolio import Portfolio
from serve.engines.resident import Resident
from serve.kept import Kept, kept
from serve.lookout import Swaps, watch
from serve.metering.meter import Meter
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline
from serve.release.adapters import Adapters
from serve.release.apply import Release
from serve.release.archive import Archive
from serve.release.ports import Settle
from serve.release.workshop import LocalWorkshop
from serve.replay import Replays
from serve.respond.background import Background
from serve.respond.run import Turns
from serve.server import Server, without_keys
from serve.settings.keys import digest_of
from serve.settings.model import ServedModel
from serve.settings.prices import Pricing
from serve.settings.site import Site
from serve.sites import Origin
from serve.state.erasure import Eraser
from serve.state.storage import Storage
from serve.toolservers.workbench import Workbench

Endpoint = (
    ChatEndpoint
    | CompletionsEndpoint
    | MessagesEndpoint
    | CountTokensEndpoint
    | ResponsesEndpoint
    | CompactEndpoint
    | InputTokensEndpoint
    | EmbeddingsEndpoint
    | ScoreEndpoint
    | RerankEndpoint
    | TokenizeEndpoint
    | DetokenizeEndpoint
)


def compose(
    site: Site,
    portfolio: Portfolio,
    starter: str | None = None,
    clock: Clock | None = None,
    origin: Origin | None = None,
) -> Server:
    """Join the parts of a site. `starter` is a key that its database does not know.

    Without an `origin` the site cannot be changed while it is served.
    """
    clock = clock or SystemClock()
    metrics = Metrics(__version__)
    keeps = kept(site, clock, metrics)
    storage, directory, trail = keeps.storage, keeps.directory, keeps.audit.records
    kind = site.engine_defaults.kind
    catalogue = Catalogue(site.var_dir, engine_version(kind), fake=kind == "fake")
    meter = Meter(metrics, clock, keeps.ledger, keeps.audit.receipts)
    pipeline = _pipeline(site, portfolio, catalogue, keeps, meter, starter)
    portfolio.observer = Swaps(trail, metrics)
    metrics.waiting_now, metrics.lines_now = portfolio.waiting, pipeline.gate.waiting
    for one in pipeline.served:
        watch(one.backend, one.model, metrics, pipeline, trail)
    workbench = Workbench(site.tool_servers, os.environ, site.var_dir / "tools", metrics, trail)
    turns = Turns(
        pipeline, storage.responses, storage.conversations, storage.turnbook, storage.ttl_s,
        workbench, directory.erasures_of,
    )  # fmt: skip
    background = Background(turns)
    endpoints = _endpoints(site, pipeline, storage, directory.erasures_of)
    endpoints |= _responding(site, turns, background, pipeline.keys)
    inside = Inside(pipeline.keys)
    office = _office(site, storage, pipeline, metrics, inside, endpoints)
    bodies, uploading = JsonBodies(site.limits), files.Uploading(site.files)
    sockets = {"/v1/responses": responses.Sockets(turns, background, pipeline.keys, site.limits)}
    stops = {"responses": background.drop, "batches": office.drop}
    tenancy = Tenancy(directory, Eraser(directory, storage.retention, stops), trail)
    routers = _routers(storage, background, office, pipeline.keys, bodies, uploading)
    asgi = inside.app = _asgi(endpoints, pipeline, metrics, routers, sockets, tenancy, storage)
    release = None
    if origin is not None:
        bounded = (*endpoints.values(), *sockets.values(), bodies)
        settle = _settling(
            origin, pipeline, bounded, portfolio, metrics, keeps, office, uploading, workbench
        )
        release = _release(origin, pipeline, portfolio, catalogue, metrics, settle, trail)
    adapters = Adapters(pipeline, catalogue.looked_again)
    desk = Desk(
        pipeline, PortfolioKeeper(portfolio), adapters, release, clock, office, tenancy, trail,
        Replays(pipeline, storage.texts),
    )  # fmt: skip
    return Server(
        site, asgi, portfolio, pipeline, metrics, adapters, desk, keeps, office, background,
        workbench, release,
    )  # fmt: skip


def _pipeline(
    site: Site,
    portfolio: Portfolio,
    catalogue: Catalogue,
    keeps: Kept,
    meter: Meter,
    starter: str | None,
) -> Pipeline:
    """The way of all requests to the site's engines."""
    served = catalogue.served(_pairs(site, portfolio))
    catalogue.tidy(served)
    limits, steady = site.limits, keeps.steady
    gate = Gate(limits.queue_requests, limits.queue_tokens, fair=limits.order == "fair")
    entrance = Entrance(gate, Quotas(steady.now_s), keeps.limits, Budgets(keeps.ledger.spending))
    keys = Authenticator(
        required=site.auth.mode == "keys", starter=starter_of(starter), now_s=steady.now_s
    )
    pipeline = Pipeline(
        served, gate, meter, limits.ready_wait_s, site.routes, entrance,
        queue_wait_s=limits.queue_wait_s, keys=keys, salts=Salts(),
    )  # fmt: skip
    keeps.directory.subscribe(partial(_learn, pipeline))
    return pipeline


def starter_of(text: str | None) -> Key | None:
    """The key that lies in a file of its own."""
    if text is None:
        return None
    return Key("starter", DEFAULT_TENANT, "starter", digest_of(text), created_s=0.0)


def _learn(pipeline: Pipeline, roster: Roster) -> None:
    pipeline.salts.learn(roster)
    pipeline.withdraw(pipeline.keys.learn(roster))


def _office(
    site: Site,
    storage: Storage,
    pipeline: Pipeline,
    metrics: Metrics,
    inside: Inside,
    endpoints: Collection[str],
) -> Office:
    place = Workplace(
        storage.batches, storage.files, storage.folder, inside,
        Lanes(site.batches, PipelineTraffic(pipeline)), metrics,
        site.batches, int(site.limits.body_mib * 2**20),
    )  # fmt: skip
    office = Office(place, [path for path in ENDPOINTS if path in endpoints])
    metrics.batches_now = office.counts
    return office


def _pairs(site: Site, portfolio: Portfolio) -> list[tuple[ServedModel, Backend]]:
    """Each model of the site with what answers for it."""
    engines: dict[str, list[Resident]] = {}
    for one in portfolio.residents():
        engines.setdefault(one.model.id, []).append(one)
    waiting_max = site.limits.waiting_requests
    return [(one, joined(one, engines.get(one.id, ()), waiting_max)) for one in site.models]


def _release(
    origin: Origin,
    pipeline: Pipeline,
    portfolio: Portfolio,
    catalogue: Catalogue,
    metrics: Metrics,
    settle: Settle,
    trail: Trail,
) -> Release:
    def join(model: ServedModel, residents: Sequence[Resident]) -> Backend:
        backend = joined(model, residents, origin.loaded.site.limits.waiting_requests)
        watch(backend, model, metrics, pipeline, trail)
        return backend

    workshop = LocalWorkshop(origin.foundry, portfolio, catalogue, join)
    return Release(
        origin.loaded,
        workshop.present(pipeline.served),
        workshop,
        pipeline,
        Archive(origin.loaded.site.var_dir),
        load=origin.load,
        settle=settle,
        trail=trail,
    )


def _settling(
    origin: Origin,
    pipeline: Pipeline,
    bounded: Sequence[Endpoint | responses.Sockets | JsonBodies],
    portfolio: Portfolio,
    metrics: Metrics,
    keeps: Kept,
    office: Office,
    uploading: files.Uploading,
    workbench: Workbench,
) -> Settle:
    """What of a new site's own settings counts at once."""
    authenticator, storage = pipeline.keys, keeps.storage

    def settle(site: Site) -> Callable[[], None]:
        required = site.auth.mode == "keys"
        if required and not authenticator.known:
            raise without_keys(str(origin.loaded.path))
        tool_servers = workbench.made(site.tool_servers)

        def now() -> None:
            limits = site.limits
            authenticator.required = required
            pipeline.gate.bounds.requests = limits.queue_requests
            pipeline.gate.bounds.tokens = limits.queue_tokens
            pipeline.queue_wait_s = limits.queue_wait_s
            pipeline.entrance.limits.everyone = limits.each_tenant
            pipeline.ready_wait_s = limits.ready_wait_s
            storage.settings = site.state
            storage.idempotency.settings = site.idempotency
            keeps.ledger.price = Pricing(site.prices)
            storage.file_bounds = uploading.bounds = site.files
            office.settle(site.batches, int(limits.body_mib * 2**20))
            workbench.settle(tool_servers)
            for each in bounded:
                each.bound(limits)
            for one in portfolio.residents():
                one.waiting_max = limits.waiting_requests
            for served in pipeline.served:
                metrics.set_engine_state(served.model.id, served.backend.status.state)
                for remote in remotes_of(served.backend):
                    remote.waiting_max = limits.waiting_requests
            logs.set_level(site.log.level)

        return now

    return settle


def _endpoints(
    site: Site, pipeline: Pipeline, storage: Storage, erasures: Callable[[str], int]
) -> dict[str, Endpoint]:
    at = (pipeline, pipeline.keys, site.limits)
    return {
        "/v1/chat/completions": ChatEndpoint(*at, storage.completions, erasures),
        "/v1/completions": CompletionsEndpoint(*at),
        "/v1/messages": MessagesEndpoint(*at),
        "/v1/messages/count_tokens": CountTokensEndpoint(*at),
        "/v1/embeddings": EmbeddingsEndpoint(*at),
        "/v1/score": ScoreEndpoint(*at),
        "/v1/rerank": RerankEndpoint(*at),
        "/tokenize": TokenizeEndpoint(*at),
        "/detokenize": DetokenizeEndpoint(*at),
    }


def _responding(
    site: Site, turns: Turns, background: Background, authenticator: Authenticator
) -> dict[str, Endpoint]:
    at = (turns, background, authenticator, site.limits)
    return {
        "/v1/responses": ResponsesEndpoint(*at),
        "/v1/responses/compact": CompactEndpoint(*at),
        "/v1/responses/input_tokens": InputTokensEndpoint(*at),
    }


def _routers(
    storage: Storage,
    background: Background,
    office: Office,
    keys: Authenticator,
    bodies: JsonBodies,
    uploading: files.Uploading,
) -> tuple[APIRouter, ...]:
    return (
        conversations.router(storage.conversations, keys, bodies),
        stored.router(storage.completions, keys, bodies),
        responses.router(storage.responses, background, keys),
        files.router(storage.files, uploading, keys),
        uploads.router(storage.uploads, uploading, keys, bodies),
        batches.router(office, keys, bodies),
    )


def _asgi(
    direct: Mapping[str, Endpoint],
    pipeline: Pipeline,
    metrics: Metrics,
    routers: Iterable[APIRouter],
    sockets: Mapping[str, responses.Sockets],
    tenancy: Tenancy,
    storage: Storage,
) -> ASGIApp:
    keys = pipeline.keys
    app = FastAPI(title="Inhouse", version=__version__, openapi_url=None, redirect_slashes=False)
    errors.install(app)
    app.include_router(models.router(pipeline, keys))
    for one in routers:
        app.include_router(one)
    # Known to the framework too, which answers other methods there.
    app.router.routes[:0] = posted(direct, app.router.routes)
    app.include_router(health.router(pipeline, metrics))
    app.include_router(openapi.router(keys))
    return Envelope(
        app,
        {path: errors.Guard(one) for path, one in direct.items()},
        {path: errors.Guard(one) for path, one in sockets.items()},
        errors.Guard(AdminDoor(app, tenancy.app, keys)),
        once(storage.idempotency, keys),
    )
