"""What engines were found to take and to need for their start, kept for the next plan."""

import hashlib
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from serve.engines.hardware import Hardware
from serve.engines.memory import HOST, Amounts, Footprint, Need, peak
from serve.settings.model import ModelConfig

log = logging.getLogger("inhouse.engine")

ENTRIES_MAX: Final = 512
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Record:
    """The largest amounts found in each condition; none where it was not measured.

    `kv_bytes` is what of them was the cache on a CPU, whose size the profile chooses anew at
    each start. `load_s` is what the latest load took.
    """

    awake: Amounts = field(default_factory=dict)
    asleep: Amounts = field(default_factory=dict)
    kv_bytes: int = 0
    load_s: float = 0.0

    def need(self, footprint: Footprint) -> Need:
        """The estimate, corrected by what was found."""
        estimate = footprint.estimate
        # vLLM starts only where all of its share of a device is free, however little it fills.
        awake = dict(peak(estimate.awake, self.awake))
        if HOST in self.awake:
            awake[HOST] = max(0, self.awake[HOST] - self.kv_bytes) + footprint.kv_bytes
        if estimate.asleep is None:
            return Need(awake)
        return Need(awake, {**estimate.asleep, **self.asleep}, estimate.sleep_level)

    def larger(self, other: "Record") -> "Record":
        """What a later one adds to this; amounts with another cache start anew."""
        if other.kv_bytes != self.kv_bytes:
            return other
        awake, asleep = peak(self.awake, other.awake), peak(self.asleep, other.asleep)
        return Record(awake, asleep, other.kv_bytes, other.load_s or self.load_s)


class Records:
    """One small file of records; where it is damaged it is begun anew, with a warning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._records = self._read()

    def get(self, key: str) -> Record | None:
        """The record of this engine."""
        return self._records.get(key)

    def put(self, key: str, record: Record) -> Record:
        """Keep what was found, and return what is now known. Writes: use it in a thread."""
        with self._lock:
            before = self._records.pop(key, None)
            kept = self._records[key] = record if before is None else before.larger(record)
            while len(self._records) > ENTRIES_MAX:
                del self._records[next(iter(self._records))]
            if kept != before:
                self._write()
            return kept

    def _read(self) -> dict[str, Record]:
        try:
            content = orjson.loads(self._path.read_bytes())
            if content["version"] != VERSION:
                return {}
            return {str(key): _record(row) for key, row in content["engines"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("%s is ignored: %s; engines are measured anew", self._path, error)
            return {}

    def _write(self) -> None:
        rows = {key: asdict(record) for key, record in self._records.items()}
        part = self._path.with_suffix(f".{os.getpid()}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(orjson.dumps({"version": VERSION, "engines": rows}))
            part.replace(self._path)
        except OSError as error:
            # A full disk must not end an engine: the figures are found again.
            log.warning("%s cannot be written: %s", self._path, error.strerror)


def record_key(config: ModelConfig, hardware: Hardware) -> str:
    """Changes with whatever changes an engine's memory: its settings, the machine, vLLM."""
    told: Mapping[str, Any] = {
        "config": config.model_dump(mode="json"),
        "gpus": [(one.name, one.memory_bytes) for one in hardware.gpus],
        "cpu": hardware.cpu.name,
        "cores": [len(node.cores) for node in hardware.nodes],
        "vllm": hardware.tools.vllm,
        "torch": hardware.tools.torch,
    }
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _record(row: Mapping[str, Any]) -> Record:
    awake, asleep = _amounts(row["awake"]), _amounts(row["asleep"])
    return Record(awake, asleep, max(0, int(row["kv_bytes"])), max(0.0, float(row["load_s"])))


def _amounts(row: Mapping[str, Any]) -> dict[str, int]:
    amounts = {str(pool): int(amount) for pool, amount in row.items()}
    if any(amount < 0 for amount in amounts.values()):
        raise ValueError("an amount below zero")
    return amounts
