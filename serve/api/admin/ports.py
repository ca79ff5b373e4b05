"""What the admin door asks of the server behind it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Holding:
    """What one model takes and has taken of this machine.

    `memory` is in bytes by pool (`serve.engines.memory`), by estimate until it is `measured`.
    `waiting` counts the requests that wait for it to be loaded or woken; `swap_s` is what its
    latest load or wake took, None before the first.
    """

    memory: Mapping[str, int] = field(default_factory=dict)
    measured: bool = False
    waiting: int = 0
    swap_s: float | None = None
    loads: int = 0
    evictions: int = 0


class Keeper(Protocol):
    """Who loads and stops the site's models.

    Each order returns once it is carried out, at once where there is nothing to do, and raises
    RequestError with the reason where it cannot be.
    """

    async def load(self, model_id: str) -> None:
        """Have it ready, whatever it was before."""

    async def sleep(self, model_id: str) -> None:
        """Have it free its device; the next request wakes it."""

    async def drain(self, model_id: str) -> None:
        """Give it no new request, let what runs on it end, then stop it until `load`."""

    async def restart(self, model_id: str) -> None:
        """Replace its process; what runs ends first, what comes meanwhile waits."""

    def holding(self, model_id: str) -> Holding:
        """What it takes now; nothing is loaded or woken to find out."""

    def memory(self) -> Mapping[str, Any]:
        """The memory that the models share, by pool: `capacity_bytes`, `held_bytes`."""


class Releases(Protocol):
    """Who turns one site into another."""

    def state(self) -> Mapping[str, Any]:
        """The present site's digest, the last good one, which file is being applied (`applying`),
        and how the last apply ended."""

    async def plan(self, site_file: Path) -> Mapping[str, Any]:
        """What applying the file would do. Raises SettingsError where it is wrong."""

    def apply(self, site_file: Path) -> AsyncIterator[Mapping[str, Any]]:
        """Do it, telling each step; the last event has its `outcome`.

        It goes on where nobody listens any more. Raises SettingsError, and Conflict while another
        apply runs.
        """


class Adapters(Protocol):
    """Who knows the adapters that lie in the models' folders."""

    async def rescan(self) -> Mapping[str, Any]:
        """Serve those that lie there now; the names `added`, `changed` and `removed`.

        Raises SettingsError, and changes nothing, where one that a model file lists is wrong.
        """
