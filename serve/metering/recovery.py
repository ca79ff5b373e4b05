"""What an earlier process left in its journal, read as the records that it had not got to keep."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from serve.core.ledger import Closed, Opened, Settled
from serve.core.usage import Usage
from serve.metering.journal import Leaf, entries

RESERVED: Final = "R"
NOTED: Final = "N"
SETTLED: Final = "S"

Price = Callable[[str, float, Usage], int | None]
"""What these tokens of a model cost, in billionths, at a Unix time; None where it has no price."""


def reserved(run: int, opened: Opened) -> list[Any]:
    """The entry of a request's beginning."""
    return [
        RESERVED, run, opened.request_id, opened.tenant, opened.key, opened.endpoint, opened.model,
        opened.tier, opened.received_s,
    ]  # fmt: skip


def noted(run: int, usage: Usage) -> list[Any]:
    """The entry of what a request has used so far."""
    return [NOTED, run, usage.prompt, usage.completion, usage.cached, usage.reasoning]


def settled(run: int, closed: Closed, cost_nano: int | None) -> list[Any]:
    """The entry of a request's end."""
    usage = closed.usage
    return [
        SETTLED, run, closed.outcome, closed.model, closed.fingerprint, closed.finish,
        [usage.prompt, usage.completion, usage.cached, usage.reasoning],
        closed.queue_s, closed.ttft_s, closed.duration_s, cost_nano,
    ]  # fmt: skip


def left_in(leaves: Iterable[Leaf], price: Price) -> list[tuple[Settled, list[Leaf]]]:
    """Every request of these files as it ended, with the files that tell of it.

    One that has no end there has `crashed`, with the tokens that were known. Raises OSError.
    """
    told: dict[int, _Told] = {}
    for leaf in leaves:
        for entry in entries(leaf.path.read_bytes()):
            told.setdefault(entry[1], _Told()).take(entry, leaf)
    # An end whose beginning is in a file that has gone is in the database: that file went for it.
    return [
        (one.record(run, price), one.leaves) for run, one in told.items() if one.opened is not None
    ]


class _Told:
    """What the journal has of one request."""

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self.leaves: list[Leaf] = []
        self._usage = Usage()
        self._end: list[Any] | None = None

    def take(self, entry: list[Any], leaf: Leaf) -> None:
        if leaf not in self.leaves:
            self.leaves.append(leaf)
        match entry[0]:
            case "R":
                self.opened = Opened(*entry[2:])
            case "N":
                self._usage = Usage(*entry[2:])
            case _:
                self._end = entry

    def record(self, run: int, price: Price) -> Settled:
        assert self.opened is not None
        if self._end is None:
            model, usage = self.opened.model, self._usage
            closed = Closed("crashed", model, usage=usage)
            return Settled(run, self.opened, closed, price(model, self.opened.received_s, usage))
        outcome, model, fingerprint, finish, usage, *times, cost_nano = self._end[2:]
        closed = Closed(outcome, model, fingerprint, finish, Usage(*usage), *times)
        return Settled(run, self.opened, closed, cost_nano)
