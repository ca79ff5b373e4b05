"""Who answers to which name, where several snapshots share one.

A pinned name (`name-YYYY-MM-DD`) and an alias mean one entry. The plain name means the newest
snapshot, unless an entry claims it by listing it among its own aliases.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple


class Entry(NamedTuple):
    """A model, or an adapter of one, by what it is called."""

    name: str
    snapshot: date | None = None
    aliases: tuple[str, ...] = ()

    @property
    def pin(self) -> str:
        """The name that means this snapshot for ever."""
        return pinned(self.name, self.snapshot)


def pinned(name: str, snapshot: date | None) -> str:
    """A name with its date, where it has one."""
    return name if snapshot is None else f"{name}-{snapshot.isoformat()}"


def names_of(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """The names that each entry answers to, the pinned one first."""
    holders = _holders(entries)
    return [
        tuple(
            dict.fromkeys(
                (
                    one.pin,
                    *((one.name,) if holders[one.name] == index else ()),
                    *one.aliases,
                )
            )
        )
        for index, one in enumerate(entries)
    ]


def clashes(entries: Sequence[Entry]) -> Iterator[tuple[int, int, str, str]]:
    """Names that mean two entries: (entry, the one before, name, the setting at fault)."""
    owners: dict[str, int] = {}
    for index, (one, names) in enumerate(zip(entries, names_of(entries), strict=True)):
        pin = one.pin
        for name in names:
            owner = owners.setdefault(name, index)
            if owner != index:
                setting = "snapshot" if name == pin else "name" if name == one.name else "aliases"
                yield index, owner, name, setting


def _holders(entries: Sequence[Entry]) -> dict[str, int]:
    """Plain name → the entry that has it."""
    holders: dict[str, int] = {}
    for index, one in enumerate(entries):
        rival = holders.setdefault(one.name, index)
        if rival != index and _rank(one) > _rank(entries[rival]):
            holders[one.name] = index
    return holders


def _rank(one: Entry) -> tuple[bool, date]:
    return one.name in one.aliases, one.snapshot or date.min
