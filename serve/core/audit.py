"""The audit log, as the parts of a server that have something to say to it see it."""

from collections.abc import Mapping
from typing import Any, Final, Protocol


class Trail(Protocol):
    """Takes records, in their order, for good."""

    def claim(self) -> None:
        """Keep room for one record that is to come, until `record` with `claimed`.

        Raises StorageUnavailable where there is none: nothing must be begun then.
        """

    def unclaim(self) -> None:
        """The record does not come."""

    def record(self, kind: str, fields: Mapping[str, Any], *, claimed: bool = False) -> None:
        """Add a record. One that cannot be written now waits; that some were lost is a record."""

    async def durable(self) -> None:
        """Wait until all that was recorded is on the disk.

        Raises StorageUnavailable where it cannot be put there.
        """


class _NoTrail:
    """Keeps nothing: for sites without an audit log, and parts that are run by themselves."""

    def claim(self) -> None:
        return

    def unclaim(self) -> None:
        return

    def record(self, kind: str, fields: Mapping[str, Any], *, claimed: bool = False) -> None:
        del kind, fields, claimed

    async def durable(self) -> None:
        return


NO_TRAIL: Final[Trail] = _NoTrail()
