"""Rows of the processes of one Locust test, brought together: the master has every worker's.

Locust rounds its own percentiles; these come from the rows themselves. Workers send them,
without their gaps, with each of Locust's reports.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.load.result import Client, Row
from benchmarks.load.validity import lag_p99_s, peak

ROWS_MAX: Final = 500_000
"""What one process keeps of them; a test that has more is ended."""

LAGS_MAX: Final = 200_000
"""Samples of its loop's lateness that are kept, the last ones: a quarter of an hour."""


@dataclass(slots=True)
class Process:
    """How one process did, as it reported last."""

    lag_p99_s: float = 0.0
    lag_max_s: float = 0.0
    cpu_share: float = 0.0
    connections: int = 0


@dataclass(slots=True)
class Gathering:
    """Rows of this process and of those that report to it."""

    rows: list[Row] = field(default_factory=list)
    lags_s: deque[float] = field(default_factory=lambda: deque(maxlen=LAGS_MAX))
    others: dict[str, Process] = field(default_factory=dict)
    connections: int = 0
    _reported: int = 0

    @property
    def full(self) -> bool:
        """Whether no more may be kept."""
        return len(self.rows) >= ROWS_MAX

    def add(self, row: Row) -> None:
        """Keep one, with a number of its own here."""
        self.rows.append(row.model_copy(update={"id": len(self.rows)}))

    def report(self, cpu_share: float) -> dict[str, Any]:
        """What is new since the last report, for the master."""
        new, self._reported = self.rows[self._reported :], len(self.rows)
        here = self.own(cpu_share)
        return {
            "rows": [one.model_dump(exclude_defaults=True, exclude={"gaps_s"}) for one in new],
            "process": {name: getattr(here, name) for name in Process.__slots__},
        }

    def merge(self, name: str, report: dict[str, Any]) -> None:
        """Take a worker's report."""
        for row in report["rows"]:
            self.add(Row.model_validate(row))
        self.others[name] = Process(**report["process"])

    def own(self, cpu_share: float) -> Process:
        """How this process did."""
        return Process(
            lag_p99_s(self.lags_s), max(self.lags_s, default=0.0), cpu_share, self.connections
        )

    def client(self, cpu_share: float, ceiling_chunks_per_s: float | None) -> Client:
        """All of them together: the worst of each, for any may be the one that was late."""
        all_ = list(self.others.values()) or [self.own(cpu_share)]
        return Client(
            lag_p99_s=max(one.lag_p99_s for one in all_),
            lag_max_s=max(one.lag_max_s for one in all_),
            cpu_share=max(one.cpu_share for one in all_), chunks_per_s_peak=peak(self.rows),
            ceiling_chunks_per_s=ceiling_chunks_per_s,
            connections=sum(one.connections for one in all_),
        )  # fmt: skip
