"""A server of pretended engines, to which sites are applied."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serve.admission.context import ContextGuard
from serve.admission.gate import Gate
from serve.core.call import Call, Principal
from serve.core.clock import SystemClock
from serve.core.errors import EngineError, EngineUnavailable, SettingsError
from serve.engines.backend import Backend
from serve.engines.client import EngineClient
from serve.engines.memory import HOST, NOTHING, Amounts
from serve.engines.states import State
from serve.engines.status import EngineStatus
from serve.metering.meter import Meter
from serve.metering.metrics import Metrics
from serve.pipeline import Pipeline
from serve.release.apply import Release
from serve.release.archive import Archive
from serve.release.plan import Room
from serve.release.ports import Loaded
from serve.served import Served
from serve.settings.load import load_files
from serve.settings.model import ServedModel
from serve.settings.names import names_of
from serve.settings.site import Site

WHO = Principal("k")


class Claimed:
    """A claim that knows whose it is."""

    def __init__(self, unit: "Unit") -> None:
        self.unit = unit
        unit.in_use += 1

    @property
    def client(self) -> EngineClient:
        raise AssertionError("nobody asks a pretended engine")

    def release(self) -> None:
        self.unit.in_use -= 1


class Unit:
    """A pretended engine, and the backend that it is."""

    def __init__(self, model: ServedModel, world: "World", number: int) -> None:
        self.model = model
        self.number = number
        self.state = State.STOPPED
        self.in_use = 0
        self.there = False
        self.adopted: list[ServedModel] = []
        self.client: EngineClient | None = None
        self._world = world

    @property
    def backend(self) -> Backend:
        return self

    @property
    def awake(self) -> bool:
        return self.state is State.READY

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(self.model.id, self.state, 1, 1, 0.0, 0, None, None)

    def subscribe(self, callback: Callable[[], None]) -> None:
        del callback

    async def claim(
        self, call: Call, timeout_s: float, avoid: EngineClient | None = None
    ) -> Claimed:
        while self.there and self.state is not State.READY:  # noqa: ASYNC110 - step by step
            await asyncio.sleep(0)
        if self.state is not State.READY:
            raise EngineUnavailable("stopped")
        return Claimed(self)

    async def start(self, *, patient: bool = False) -> None:
        await self.enlist()
        await asyncio.sleep(0)
        self._world.tell(f"start {self.model.id}#{self.number}")
        self.state = State.READY
        self._world.takes()

    async def enlist(self) -> None:
        self.there = True

    async def retire(self, drain_timeout_s: float) -> None:
        if drain_timeout_s:
            while self.in_use:  # noqa: ASYNC110 - step by step
                await asyncio.sleep(0)
        if self.state is not State.STOPPED:
            self._world.told.append(f"stop {self.model.id}#{self.number}")
        self.state = State.STOPPED
        self.there = False

    def adopt(self, model: ServedModel) -> None:
        self.adopted.append(model)
        self.model = model


@dataclass
class World:
    """Makes units. `fail_at` is the number of the call that fails, of those that may."""

    needs: dict[str, Amounts] = field(default_factory=dict)
    """By name and context size, or by name."""
    capacity: Amounts = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    fail_at: int | None = None
    calls: int = 0
    found: Callable[[tuple[Served, ...]], tuple[Served, ...]] = lambda served: served
    """What a look at the adapters makes of the models."""

    def tell(self, what: str) -> None:
        self.told.append(what)
        self.calls += 1
        if self.calls == self.fail_at:
            self.fail_at = None
            raise EngineError(f"{what} failed")

    def takes(self) -> None:
        """Check that what runs fits."""
        taken = sum(self.need(one.model).get(HOST, 0) for one in self.units if one.awake)
        assert not self.capacity or taken <= self.capacity[HOST]

    def need(self, model: ServedModel) -> Amounts:
        return self.needs.get(model.config.name, NOTHING)

    def fingerprint(self, model: ServedModel) -> str:
        if not model.config.source.path.parent.exists():
            raise SettingsError("weights are missing")
        return f"fp {model.config.context_tokens}"

    def unit(self, site: Site, model: ServedModel) -> Unit:
        self.tell(f"make {model.id}")
        made = Unit(model, self, len(self.units))
        self.units.append(made)
        return made

    def served(self, pairs: Sequence[tuple[ServedModel, Backend]]) -> tuple[Served, ...]:
        self.tell("publish")
        return self.publishable(pairs)

    def publishable(self, pairs: Sequence[tuple[ServedModel, Backend]]) -> tuple[Served, ...]:
        own = names_of([model.entry for model, _ in pairs])
        return tuple(
            Served(
                model=model,
                backend=backend,
                guard=ContextGuard(1000, Path("none")),
                fingerprint=self.fingerprint(model),
                created_s=0,
                names=names,
                engine_model=model.id,
                about={},
            )
            for (model, backend), names in zip(pairs, own, strict=True)
        )

    def looked_again(self, served: Sequence[Served]) -> tuple[Served, ...]:
        self.tell("look")
        return self.found(tuple(served))

    async def room(self, site: Site) -> Room:
        awake = [one for one in self.units if one.awake]
        held = {one.model.id: self.need(one.model) for one in awake}
        free = dict(self.capacity)
        for amounts in held.values():
            for pool, amount in amounts.items():
                free[pool] = free.get(pool, 0) - amount
        return Room(
            capacity=self.capacity,
            free=free,
            held=held,
            needs={one.id: self.need(one) for one in site.models},
            start_s={"a": 7.0},
        )


class Stage:
    """A running site of files below `root`, and the release that changes it."""

    def __init__(self, root: Path, world: World) -> None:
        self.root = root
        self.world = world
        self.settled: list[Site] = []
        (root / "models").mkdir(exist_ok=True)
        self.write(["a: 100", "b: 100"])
        loaded = self.load(self.site_file)
        units = {}
        for model in loaded.site.models:
            unit = Unit(model, world, len(world.units))
            unit.state = State.READY
            world.units.append(unit)
            units[model.id] = unit
        served = world.publishable([(one.model, one) for one in units.values()])
        self.pipeline = Pipeline(served, Gate(100), Meter(Metrics("1"), SystemClock()), 1.0)
        self.archive = Archive(loaded.site.var_dir)
        self.release = Release(
            loaded, units, world, self.pipeline, self.archive, load=self.load, settle=self._settle
        )

    @property
    def site_file(self) -> Path:
        return self.root / "site.yaml"

    def write(
        self, models: list[str], more: str = "", entries: dict[str, str] | None = None
    ) -> str:
        """Model files from `name: context` and a site file of them all; the site file's text."""
        lines = ["site: t", "root: .", "model_files: models", "auth: {mode: none}", "var_dir: var"]
        lines += [more] if more else []
        lines.append("models:")
        for one in models:
            name, context = one.split(": ")
            (self.root / "models" / f"{name}.yaml").write_text(
                f"name: {name}\nsource: {{path: none}}\ncontext_tokens: {context}\n"
            )
            extra = (entries or {}).get(name, "")
            lines.append(f"  - {{use: {name}{', ' + extra if extra else ''}}}")
        text = "\n".join(lines) + "\n"
        self.site_file.write_text(text)
        return text

    def load(self, path: Path) -> Loaded:
        site, texts = load_files(path, env={})
        return Loaded(path, site, texts)

    def _settle(self, site: Site) -> Callable[[], None]:
        self.world.tell("settle")
        return lambda: self.settled.append(site)

    async def apply(self) -> list[dict[str, Any]]:
        """The events of one apply."""
        return [dict(event) async for event in self.release.apply(self.site_file)]

    async def who_answers(self, name: str) -> int:
        """The number of the unit that a request for this name reaches."""
        served = self.pipeline.resolve(name, WHO)
        claim = await served.backend.claim(call_of(served), 1.0)
        assert isinstance(claim, Claimed)
        claim.release()
        return claim.unit.number

    def running(self) -> set[int]:
        return {one.number for one in self.world.units if one.awake}


def call_of(served: Served, asked: str = "") -> Call:
    return Call(
        request_id="req_1",
        endpoint="chat.completions",
        path="/v1/chat/completions",
        principal=WHO,
        model_id=served.id,
        body={"model": served.engine_model},
        choices=1,
        include_usage=False,
        received_s=0.0,
        asked=asked,
    )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def stage(tmp_path: Path, world: World) -> Stage:
    """Two models, `a` (engine 0) and `b` (engine 1), with no bound on memory."""
    return Stage(tmp_path, world)


@pytest.fixture
def tight(tmp_path: Path) -> Stage:
    """The same, with memory for three."""
    needs = {"a": {HOST: 2}, "b": {HOST: 1}, "c": {HOST: 1}}
    return Stage(tmp_path, World(needs=needs, capacity={HOST: 3}))
