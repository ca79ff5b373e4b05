"""What a release asks of the server around it: the only way from its decisions to engines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from serve.engines.backend import Backend
from serve.release.plan import Room
from serve.served import Served
from serve.settings.model import ServedModel
from serve.settings.site import Site


@dataclass(frozen=True, slots=True)
class Loaded:
    """A site as it was read, and the bytes of every settings file that was read for it."""

    path: Path
    site: Site
    texts: Mapping[Path, bytes] = field(default_factory=dict)


Load = Callable[[Path], Loaded]
"""Reads a site file. Raises SettingsError; blocks."""

Settle = Callable[[Site], Callable[[], None]]
"""Reads what goes with a site's own settings (keys), which may raise SettingsError and block; what
it returns makes them count, at once and without fail."""


class Unit(Protocol):
    """What answers for one model, and can be started and stopped; `start` works after `retire`."""

    @property
    def model(self) -> ServedModel:
        """What it serves."""

    @property
    def backend(self) -> Backend:
        """Where requests for it go."""

    @property
    def awake(self) -> bool:
        """Whether it holds an engine's memory now."""

    async def start(self, *, patient: bool = False) -> None:
        """Return once it has answered a real one-token request.

        Raises EngineError with the engine's own reason: at its first failure or, where `patient`,
        once it is given up.
        """

    async def enlist(self) -> None:
        """Be there without being started: its first request starts it."""

    async def retire(self, drain_timeout_s: float) -> None:
        """Let what has been given to it end within this time, then stop it; returns when its
        processes are gone. Nothing happens to one that is not there."""

    def adopt(self, model: ServedModel) -> None:
        """The same engine, placed otherwise by the site (pin, idle_sleep_s, load)."""


class Workshop(Protocol):
    """Who makes units and knows what they take. What is not `async` may block."""

    def fingerprint(self, model: ServedModel) -> str:
        """What the model is made of now, its files included. Raises SettingsError."""

    def unit(self, site: Site, model: ServedModel) -> Unit:
        """A unit that has been checked, and of which nothing runs yet.

        Raises SettingsError or SetupError where the model cannot be run here.
        """

    def served(self, pairs: Sequence[tuple[ServedModel, Backend]]) -> tuple[Served, ...]:
        """What to publish for these models. Raises SettingsError."""

    def looked_again(self, served: Sequence[Served]) -> tuple[Served, ...]:
        """The same with their adapters as they lie there now. Raises SettingsError."""

    async def room(self, site: Site) -> Room:
        """The memory, as far as this site's models are concerned.

        Raises SettingsError or SetupError for a model that cannot be run here.
        """
