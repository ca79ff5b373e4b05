"""Which site is served, how its files are read, and what makes its engines."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve.core.clock import Clock, SystemClock
from serve.core.errors import SettingsError
from serve.engines.foundry import Foundry
from serve.engines.hardware import probe
from serve.engines.portfolio import Portfolio
from serve.release.archive import Archive
from serve.release.ports import Load, Loaded
from serve.settings.load import load_files
from serve.settings.model import ModelConfig, ServedModel, Source
from serve.settings.operation import Admin
from serve.settings.site import Auth, EngineDefaults, Listen, Log, Site


@dataclass(frozen=True)
class Origin:
    """Where the running site was read, and how it is read again when it changes.

    `foundry` makes its engines.
    """

    loaded: Loaded
    load: Load
    foundry: Foundry


def foundry_of(
    site: Site, environ: Mapping[str, str], knobs: tuple[str, ...] = (), clock: Clock | None = None
) -> Foundry:
    """Who makes this site's engines on this machine; `knobs` are for fake ones."""
    return Foundry(site, probe(), environ, clock or SystemClock(), knobs)


def portfolio_of(site: Site, environ: Mapping[str, str], knobs: tuple[str, ...] = ()) -> Portfolio:
    """The site's engines, planned for this machine; nothing is started.

    Raises SetupError or SettingsError where a model cannot be run: weights that are missing or
    not the ones expected, memory, tools. `knobs` are for fake engines.
    """
    foundry = foundry_of(site, environ, knobs)
    return foundry.portfolio(site.models, site.engine_defaults, site.limits.waiting_requests)


def dev_site(port: int, auth: str, log_level: str, var_dir: Path) -> Site:
    """A site of one fake model on loopback."""
    fake = ModelConfig(name="fake", source=Source(path=var_dir / "none"), context_tokens=8192)
    return Site(
        site="dev",
        listen=Listen(port=port),
        auth=Auth.model_validate({"mode": auth}),
        models=(ServedModel(config=fake, aliases=("default",)),),
        engine_defaults=EngineDefaults(kind="fake"),
        log=Log.model_validate({"level": log_level}),
        admin=Admin(socket=var_dir / "run" / "admin.sock"),
        var_dir=var_dir,
    )


def load_as_served(port: int | None = None, *, env: Mapping[str, str] = os.environ) -> Load:
    """Reads site files as `inhouse serve` does; `port` stands for their own `listen.port`."""

    return lambda path: read_as_served(path, port, env=env)


def read_as_served(
    path: Path,
    port: int | None,
    *,
    env: Mapping[str, str] = os.environ,
    given: Mapping[Path, bytes] | None = None,
) -> Loaded:
    """A site file, or what is `given` for it and its model files, with another port."""
    path = path.absolute()
    site, texts = load_files(path, env=env, given=given)
    if port is not None:
        site = site.model_copy(update={"listen": site.listen.model_copy(update={"port": port})})
    return Loaded(path, site, texts)


def load_last_good(var_dir: Path, port: int | None = None) -> Loaded:
    """The last site that was applied, from the copies of its files that are kept in `var_dir`.

    For a server whose site file is broken. Raises SettingsError where there are none.
    """
    kept = Archive(var_dir).last_good()
    if kept is None:
        raise SettingsError(f"{var_dir}: no site has been applied there, or its copies are damaged")
    return read_as_served(kept.site_file, port, given=kept.texts)
