"""The adapters of a model: those its file lists and those that lie in its folder, checked.

What passes is copied under its digest (`serve.weights.adapter.keep`), and engines read the copy.
"""

import contextlib
import logging
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from serve.core.errors import SettingsError
from serve.settings.adapter import Adapter
from serve.settings.model import ModelConfig
from serve.settings.names import Entry, clashes
from serve.weights.adapter import Base, base_of, inspect_adapter, keep
from serve.weights.digest import manifest_digest, verify
from serve.weights.ledger import Ledger

log = logging.getLogger("inhouse.adapters")

FOUND_MAX: Final = 256
"""Adapters of one folder that are served."""

_FOLDER: Final = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9._-]{0,63}?)(?:-(?P<snapshot>\d{4}-\d{2}-\d{2}))?$"
)


@dataclass(frozen=True, slots=True)
class Found:
    """An adapter that passed every check; `folder` is the copy that engines read."""

    entry: Entry
    digest: str
    rank: int
    folder: Path


class Shelf:
    """Finds and keeps adapters. Reads files, so use it outside the event loop.

    `refused` says of each folder that is not served why, as of the last look.
    """

    def __init__(self, directory: Path, ledger: Ledger) -> None:
        self._directory = directory
        self._ledger = ledger
        self.refused: dict[Path, str] = {}

    def adapters(self, config: ModelConfig, *, weightless: bool = False) -> list[Found]:
        """All adapters of a model that are to be served; `weightless`: it is a fake one.

        Raises SettingsError for one that the model file lists and that cannot be served. Of
        those in its `adapter_dir`, such ones are left out, logged and kept in `refused`.
        """
        lying = [] if config.adapter_dir is None else _folders(config.adapter_dir)
        if not config.adapters and not lying:
            return []
        base = None if weightless else base_of(config.source.path, config.name)
        found = [self._checked(one, base, config.adapter_rank_max) for one in config.adapters]
        for folder in lying:
            try:
                adapter = adapter_in(folder)
                _refuse_clash(folder, adapter, found)
                found.append(self._checked(adapter, base, config.adapter_rank_max))
                self.refused.pop(folder, None)
            except SettingsError as error:
                if self.refused.get(folder) != error.message:
                    log.warning("an adapter is not served: %s", error.message)
                self.refused[folder] = error.message
        return found

    def tidy(self, digests: Collection[str]) -> None:
        """Remove the copies of all others; call while no engine runs."""
        wanted = {digest.removeprefix("sha256:") for digest in digests}
        with contextlib.suppress(FileNotFoundError):
            for folder in self._directory.iterdir():
                if folder.name not in wanted:
                    shutil.rmtree(folder, ignore_errors=True)

    def _checked(self, adapter: Adapter, base: Base | None, rank_max: int) -> Found:
        rank = inspect_adapter(adapter.path, base, rank_max)
        if adapter.digest is not None:
            renew = f"run `inhouse digest {adapter.path}`"
            verify(adapter.path, adapter.digest, renew=f"{renew} and set digest")
        digest = adapter.digest or self._ledger.digest(adapter.path)
        folder = keep(adapter.path, digest, self._directory)
        return Found(Entry(adapter.name, adapter.snapshot), digest, rank, folder)


def adapter_in(folder: Path) -> Adapter:
    """A folder of an `adapter_dir` as the adapter that its name says.

    Where it has a manifest (`inhouse digest DIR`), its files must be those. Raises SettingsError.
    """
    said = _FOLDER.match(folder.name)
    try:
        if said is None:
            raise ValueError
        snapshot = date.fromisoformat(said["snapshot"]) if said["snapshot"] else None
    except ValueError:
        raise SettingsError(
            f"{folder}: name the folder `adapter` or `adapter-YYYY-MM-DD`, in lower-case letters, "
            "digits and `.`, `_`, `-`"
        ) from None
    return Adapter(
        name=said["name"], path=folder, snapshot=snapshot, digest=manifest_digest(folder)
    )


def _refuse_clash(folder: Path, adapter: Adapter, found: list[Found]) -> None:
    entry = Entry(adapter.name, adapter.snapshot)
    for _, _, name, _ in clashes([*(one.entry for one in found), entry]):
        raise SettingsError(f'{folder}: "{name}" already means another adapter of this model')


def _folders(directory: Path) -> list[Path]:
    try:
        there = sorted(
            one for one in directory.iterdir() if one.is_dir() and not one.name.startswith(".")
        )
    except FileNotFoundError:
        return []  # it may come later
    except OSError as error:
        raise SettingsError(f"{directory}: cannot be read ({error.strerror})") from None
    if len(there) > FOUND_MAX:
        log.warning("%s: only the first %d of its adapters are served", directory, FOUND_MAX)
    return there[:FOUND_MAX]
