"""From a model of the site to its engine: checked, planned for this machine, not yet started."""

from collections.abc import Mapping, Sequence

from serve.core.clock import Clock
from serve.engines.division import divided, keys_of
from serve.engines.footprint import (
    bounded,
    capacity,
    capacity_fake,
    estimate_fake,
    footprint,
)
from serve.engines.gauge import holdings
from serve.engines.hardware import Hardware
from serve.engines.launch import LaunchPlan, fake_plan, plan
from serve.engines.memory import Footprint
from serve.engines.portfolio import Portfolio
from serve.engines.process import SystemEffects, private_directory
from serve.engines.profile import choose
from serve.engines.records import Records
from serve.engines.resident import Resident
from serve.engines.shape import shape_of
from serve.engines.standby import StandbyPool
from serve.engines.states import Policy
from serve.engines.supervisor import EngineSupervisor
from serve.settings.model import ServedModel
from serve.settings.site import EngineDefaults, Site
from serve.weights.digest import inspect, verify


class Foundry:
    """Makes the engines of one site on one machine.

    The machine is as it was found at the start, before any engine took of it: an engine that is
    made later is planned as one made then. `knobs` are for fake engines.
    """

    def __init__(
        self,
        site: Site,
        hardware: Hardware,
        environ: Mapping[str, str],
        clock: Clock,
        knobs: tuple[str, ...] = (),
    ) -> None:
        self._var_dir = private_directory(site.var_dir)
        self._run_dir = private_directory(site.var_dir / "run")
        self._fake = site.engine_defaults.kind == "fake"
        self._memory = site.memory
        self._whole = hardware
        self._hardware = hardware if self._fake else bounded(hardware, site.memory)
        self._environ = environ
        self._clock = clock
        self._knobs = knobs
        self._standbys = StandbyPool(site.engine_defaults.standby, self._run_dir)
        self._effects = SystemEffects(self._standbys)
        self._plans: dict[str, LaunchPlan] = {}

    def portfolio(
        self, models: Sequence[ServedModel], defaults: EngineDefaults, waiting_max: int
    ) -> Portfolio:
        """All of them, none started. Raises SetupError where they cannot fit, and as `resident`."""
        granted = (
            capacity_fake(self._whole, models, self._memory)
            if self._fake
            else (capacity(self._whole, self._memory))
        )
        portfolio = Portfolio(
            [
                self.resident(model, defaults, waiting_max, key, at)
                for model in models
                for at, key in enumerate(keys_of(model))
            ],
            granted,
            self._clock,
            records=None if self._fake else Records(self._var_dir / "cache" / "memory.json"),
            gauge=None if self._fake else holdings,
            standbys=self._standbys,
        )
        portfolio.check()
        return portfolio

    def resident(
        self,
        model: ServedModel,
        defaults: EngineDefaults,
        waiting_max: int,
        key: str | None = None,
        at: int = 0,
    ) -> Resident:
        """One engine. Reads the weights where they have to be verified.

        `key` (the model's id where none is given) tells it from others of the same model; it is
        number `at` of the model's replicas.
        Raises SetupError or SettingsError where it cannot be run: weights that are missing or not
        the ones expected, memory, tools.
        """
        key = key or model.id
        launch, takes = (
            self._fake_plan(model, defaults, key, at)
            if self._fake
            else self._vllm_plan(model, defaults, key, at)
        )
        self._plans[key] = launch
        self._standbys.keep(tuple(self._plans.values()))
        policy = Policy(
            start_timeout_s=launch.ready_timeout_s,
            hang_idle_s=defaults.hang_idle_s,
            hang_loaded_s=defaults.hang_loaded_s,
            progress_every_s=defaults.progress_every_s,
        )
        supervisor = EngineSupervisor(model, launch, self._effects, self._clock, policy=policy)
        return Resident(supervisor, takes, key=key, waiting_max=waiting_max)

    def footprint(self, model: ServedModel, defaults: EngineDefaults, at: int = 0) -> Footprint:
        """What an engine of this model is taken to need. Raises as `resident`."""
        hardware, model = divided(self._hardware, model, at)
        if self._fake:
            return Footprint(estimate_fake(model, self._memory))
        shape = shape_of(model.config.source.path)
        profile = choose(hardware, model, shape, defaults.profile)
        return footprint(model, shape, profile, hardware)

    def forget(self, key: str) -> None:
        """Hold no standby for this engine any more."""
        self._plans.pop(key, None)
        self._standbys.keep(tuple(self._plans.values()))

    def _fake_plan(
        self, model: ServedModel, defaults: EngineDefaults, key: str, at: int
    ) -> tuple[LaunchPlan, Footprint]:
        launch = fake_plan(
            model, self._knobs, run_dir=self._run_dir, environ=self._environ, key=key,
            ready_timeout_s=defaults.start_timeout_s,
        )  # fmt: skip
        _, model = divided(self._hardware, model, at)
        return launch, Footprint(estimate_fake(model, self._memory))

    def _vllm_plan(
        self, model: ServedModel, defaults: EngineDefaults, key: str, at: int
    ) -> tuple[LaunchPlan, Footprint]:
        source = model.config.source
        inspect(source.path)
        if source.digest is not None:
            verify(source.path, source.digest)
        shape = shape_of(source.path)
        hardware, model = divided(self._hardware, model, at)
        profile = choose(hardware, model, shape, defaults.profile)
        launch = plan(
            model,
            profile,
            run_dir=self._run_dir,
            var_dir=self._var_dir,
            environ=self._environ,
            ready_timeout_s=defaults.start_timeout_s,
            key=key,
        )
        return launch, footprint(model, shape, profile, hardware)
