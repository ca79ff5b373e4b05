"""The adapters that a model is offered, checked where they lie: nothing is copied or changed."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from serve.core.errors import SettingsError
from serve.settings.adapter import Adapter
from serve.settings.consistency import Conflict
from serve.settings.model import ModelConfig
from serve.settings.names import Entry, clashes
from serve.settings.site import Site
from serve.weights.adapter import Base, base_of, inspect_adapter
from serve.weights.digest import manifest_digest, verify

FOUND_MAX: Final = 256
"""Adapters of one folder that are served."""

_FOLDER: Final = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9._-]{0,63}?)(?:-(?P<snapshot>\d{4}-\d{2}-\d{2}))?$"
)


@dataclass(frozen=True, slots=True)
class Inspected:
    """An adapter that could be served, and its largest rank."""

    adapter: Adapter
    rank: int

    @property
    def entry(self) -> Entry:
        """What it is called."""
        return _entry(self.adapter)


def inspected(adapter: Adapter, base: Base | None, rank_max: int) -> Inspected:
    """One adapter held against the model that is to carry it, and against its digest where it
    has one. Raises SettingsError with the reason why it cannot be served."""
    rank = inspect_adapter(adapter.path, base, rank_max)
    if adapter.digest is not None:
        renew = f"run `inhouse digest {adapter.path}`"
        verify(adapter.path, adapter.digest, renew=f"{renew} and set digest")
    return Inspected(adapter, rank)


def sorted_out(
    there: Sequence[Path], rank_max: int, base: Base | None, listed: Iterable[Adapter]
) -> tuple[list[Inspected], dict[Path, str]]:
    """The `folders` of an `adapter_dir`: adapters to serve, and of each other folder why not.

    Names that `listed` ones have are taken.
    """
    found: list[Inspected] = []
    refused: dict[Path, str] = {}
    taken = [_entry(one) for one in listed]
    for folder in there[:FOUND_MAX]:
        try:
            adapter = adapter_in(folder)
            _refuse_clash(folder, adapter, taken)
            one = inspected(adapter, base, rank_max)
        except SettingsError as error:
            refused[folder] = error.message
            continue
        found.append(one)
        taken.append(one.entry)
    for folder in there[FOUND_MAX:]:
        refused[folder] = f"{folder}: only the first {FOUND_MAX} of its folder are served"
    return found, refused


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


def folders(config: ModelConfig) -> list[Path]:
    """What may be adapters in a model's `adapter_dir`; one that is not there may come later.

    Raises SettingsError where it cannot be read.
    """
    directory = config.adapter_dir
    if directory is None:
        return []
    try:
        return sorted(
            one for one in directory.iterdir() if one.is_dir() and not one.name.startswith(".")
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{directory}: cannot be read ({error.strerror})") from None


def conflicts(site: Site) -> Iterator[Conflict]:
    """Adapters that the site lists and that could not be served, by their field.

    Where a model's weights are not here yet, its adapters are held against everything else.
    """
    for index, model in enumerate(site.models):
        config = model.config
        base = _base_if_here(config) if config.adapters else None
        for number, adapter in enumerate(config.adapters):
            try:
                inspected(adapter, base, config.adapter_rank_max)
            except SettingsError as error:
                place = ("models", index, "adapters", number)
                yield Conflict(place, f"models[{index}].adapters[{number}]: {error.message}")


def lines(config: ModelConfig) -> list[str]:
    """What lies in a model's `adapter_dir`, for a person."""
    if config.adapter_dir is None:
        return []
    try:
        there = folders(config)
    except SettingsError as error:
        return [f"not served: {error.message}"]
    base = _base_if_here(config) if there else None
    found, refused = sorted_out(there, config.adapter_rank_max, base, config.adapters)
    names = ", ".join(one.entry.pin for one in found) or "none yet"
    return [
        f"adapters in {config.adapter_dir}: {names}",
        *(f"not served: {reason}" for reason in refused.values()),
    ]


def _base_if_here(config: ModelConfig) -> Base | None:
    """None where the weights are missing or wrong, which is told elsewhere."""
    try:
        return base_of(config.source.path, config.name)
    except SettingsError:
        return None


def _refuse_clash(folder: Path, adapter: Adapter, taken: list[Entry]) -> None:
    for _, _, name, _ in clashes([*taken, _entry(adapter)]):
        raise SettingsError(f'{folder}: "{name}" already means another adapter of this model')


def _entry(adapter: Adapter) -> Entry:
    return Entry(adapter.name, adapter.snapshot)
