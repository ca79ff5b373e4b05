"""The adapters of a model: those its file lists and those that lie in its folder, checked.

What passes (`serve.engines.survey`) is copied under its digest (`serve.weights.adapter.keep`), and
engines read the copy.
"""

import contextlib
import logging
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve.core.errors import SettingsError
from serve.engines.survey import Inspected, folders, inspected, sorted_out
from serve.settings.model import ModelConfig
from serve.settings.names import Entry
from serve.weights.adapter import base_of, keep
from serve.weights.ledger import Ledger

log = logging.getLogger("inhouse.adapters")


@dataclass(frozen=True, slots=True)
class Found:
    """An adapter that passed every check; `folder` is the copy that engines read."""

    entry: Entry
    digest: str
    rank: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Contents:
    """A model's adapters as they lie now: those to serve, and of each folder of its
    `adapter_dir` that is not served why."""

    found: tuple[Found, ...] = ()
    refused: Mapping[Path, str] = field(default_factory=dict)


class Shelf:
    """Finds and keeps adapters. Reads files, so use it outside the event loop."""

    def __init__(self, directory: Path, ledger: Ledger) -> None:
        self._directory = directory
        self._ledger = ledger
        self._told: set[str] = set()

    def look(self, config: ModelConfig, *, weightless: bool = False) -> Contents:
        """All adapters of a model; `weightless`: it is a fake one.

        Raises SettingsError for one that the model file lists and that cannot be served. Of
        those in its `adapter_dir`, such ones are left out, and logged once.
        """
        listed, lying, refused = self._survey(config, weightless=weightless)
        found = [self._kept(one) for one in listed]
        for one in lying:
            try:
                found.append(self._kept(one))
            except SettingsError as error:
                refused[one.adapter.path] = error.message
        self._tell(refused)
        return Contents(tuple(found), refused)

    def check(self, config: ModelConfig, *, weightless: bool = False) -> None:
        """Raise SettingsError where `look` would; nothing is copied."""
        self._survey(config, weightless=weightless)

    def tidy(self, digests: Collection[str]) -> None:
        """Remove the copies of all others; call while no engine runs."""
        wanted = {digest.removeprefix("sha256:") for digest in digests}
        with contextlib.suppress(FileNotFoundError):
            for folder in self._directory.iterdir():
                if folder.name not in wanted:
                    shutil.rmtree(folder, ignore_errors=True)

    def _kept(self, one: Inspected) -> Found:
        path = one.adapter.path
        digest = one.adapter.digest or self._ledger.digest(path)
        return Found(one.entry, digest, one.rank, keep(path, digest, self._directory))

    def _tell(self, refused: Mapping[Path, str]) -> None:
        for reason in refused.values():
            if reason not in self._told:
                self._told.add(reason)
                log.warning("an adapter is not served: %s", reason)

    def _survey(
        self, config: ModelConfig, *, weightless: bool
    ) -> tuple[list[Inspected], list[Inspected], dict[Path, str]]:
        """Listed ones, those of the folder, and why others of the folder are refused."""
        self._refuse_own(config)
        there = folders(config)
        if not config.adapters and not there:
            return [], [], {}
        base = None if weightless else base_of(config.source.path, config.name)
        listed = [inspected(one, base, config.adapter_rank_max) for one in config.adapters]
        lying, refused = sorted_out(there, config.adapter_rank_max, base, config.adapters)
        return listed, lying, refused

    def _refuse_own(self, config: ModelConfig) -> None:
        """What is copied here must not be taken for what is offered, nor that be tidied away."""
        own = self._directory.resolve()
        for path in (config.adapter_dir, *(one.path for one in config.adapters)):
            if path is not None and path.resolve().is_relative_to(own):
                raise SettingsError(
                    f"{path}: the server keeps its own copies of adapters there; choose another "
                    "folder"
                )
