"""Adapters that come and go while their models are served: found anew, and what that changed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve.pipeline import Pipeline
from serve.served import Served

LookAgain = Callable[[Sequence[Served]], tuple[Served, ...]]
"""Models with their adapters as they lie there now. Raises SettingsError; blocks."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What has become of adapters, by name; `refused` are folders that are not served, whether
    that is new or not, each with the reason."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """What has changed, for JSON."""
        return {"added": self.added, "changed": self.changed, "removed": self.removed}

    def lines(self) -> list[str]:
        """All of it for a person."""
        said = (("is new", self.added), ("has changed", self.changed), ("is gone", self.removed))
        told = [f"adapter {name} {what}" for what, names in said for name in names]
        return [*told, *(f"not served: {reason}" for reason in self.refused)]


def difference(before: Sequence[Served], after: Sequence[Served]) -> Difference:
    """What `after` serves of adapters that `before` did not, and the other way round."""
    old, new = _digests(before), _digests(after)
    return Difference(
        added=tuple(name for name in new if name not in old),
        changed=tuple(name for name in new if name in old and old[name] != new[name]),
        removed=tuple(name for name in old if name not in new),
        refused=tuple(_refused(after)),
    )


class Adapters:
    """The adapters of what a pipeline serves."""

    def __init__(self, pipeline: Pipeline, look_again: LookAgain) -> None:
        self._pipeline = pipeline
        self._look_again = look_again

    async def rescan(self) -> Mapping[str, Any]:
        """Serve those that lie in the models' folders now; returns what has changed.

        Requests in hand keep the adapter that they were given. Raises SettingsError, and changes
        nothing, where one that a model file lists cannot be served any more.
        """
        async with self._pipeline.changing:
            before = self._pipeline.served
            after = await asyncio.to_thread(self._look_again, before)
            self._pipeline.publish(after)
        return difference(before, after).plain()


def _digests(served: Sequence[Served]) -> dict[str, Any]:
    return {one.id: one.about.get("digest") for base in served for one in base.adapters}


def _refused(served: Sequence[Served]) -> Iterator[str]:
    # Two snapshots of a model may share a folder.
    return iter(dict.fromkeys(why for one in served for why in one.refused_adapters.values()))
