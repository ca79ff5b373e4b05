"""What an operator is told of each model; nothing is loaded, woken or kept awake to tell it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serve.api.admin.orders import Orders
from serve.api.admin.ports import Keeper
from serve.core.clock import Clock
from serve.core.errors import EngineError
from serve.engines.backend import Backend
from serve.engines.client import EngineClient
from serve.engines.replicas import Replicas
from serve.engines.status import EngineStatus
from serve.metering.rates import Rates, Reading, Window, combined, read
from serve.pipeline import Pipeline
from serve.served import Served

LOOK_TIMEOUT_S: Final = 1.0
"""An engine too busy to tell its counters in this time is told of without them."""


class Reporter:
    """Describes the models that are served now.

    Rates are between looks, so a first look has none; one who looks every second sees them over
    the last ten.
    """

    def __init__(self, pipeline: Pipeline, keeper: Keeper, orders: Orders, clock: Clock) -> None:
        self._pipeline = pipeline
        self._keeper = keeper
        self._orders = orders
        self._clock = clock
        self._windows: dict[str, Window] = {}

    async def models(self) -> list[dict[str, Any]]:
        """All models, in the order of the site file."""
        return await self._of(self._pipeline.served)

    async def model(self, served: Served) -> dict[str, Any]:
        """One of them."""
        (described,) = await self._of((served,))
        return described

    async def _of(self, served: Sequence[Served]) -> list[dict[str, Any]]:
        there = {one.id for one in self._pipeline.served}
        self._windows = {name: w for name, w in self._windows.items() if name in there}
        looks = await asyncio.gather(*(self._look(one) for one in served))
        return [self._described(one, look) for one, look in zip(served, looks, strict=True)]

    async def _look(self, one: Served) -> "Look":
        members = members_of(one)
        readings = await asyncio.gather(*(reading_of(each.client) for each in members.values()))
        look = Look(dict(zip(members, zip(members.values(), readings, strict=True), strict=True)))
        if (reading := look.reading) is not None:
            window = self._windows.setdefault(one.id, Window())
            window.add(self._clock.monotonic_s(), look.processes, reading)
        return look

    def _described(self, one: Served, look: "Look") -> dict[str, Any]:
        status = one.backend.status
        gate = self._pipeline.gate
        holding = self._keeper.holding(one.id)
        reading = look.reading
        rates = self._windows[one.id].rates() if reading is not None else Rates()
        return {
            "id": one.id,
            "aliases": list(one.names[1:]),
            "adapters": [adapter.id for adapter in one.adapters],
            "digest": one.about.get("digest"),
            "task": one.model.config.task,
            "load": one.model.load,
            "pinned": one.model.pin,
            **self._state(status),
            "engines": [
                {"name": name, **self._state(each.status), **figures(found)}
                for name, (each, found) in look.engines.items()
            ],
            "memory_bytes": dict(holding.memory),
            "memory_measured": holding.measured,
            "in_hand": sum(gate.in_hand_of(each.id) for each in (one, *one.adapters)),
            **figures(reading),
            "waiting": holding.waiting + (reading.waiting if reading is not None else 0),
            "tokens_per_s": {
                "prompt": _rounded(rates.prompt), "generated": _rounded(rates.generated)
            },
            "last_swap_s": _rounded(holding.swap_s),
            "loads": holding.loads,
            "evictions": holding.evictions,
            **self._ordered(one.id),
        }  # fmt: skip

    def _state(self, status: EngineStatus) -> dict[str, Any]:
        return {
            "state": status.state,
            "since": round(self._wall_s(status.since_s), 3),
            "pid": status.pid,
            "generation": status.generation,
            "restarts": status.restarts,
            "hangs": status.hangs,
            "last_error": status.last_error,
            "next_start_in_s": _rounded(status.next_start_in_s),
        }

    def _ordered(self, model_id: str) -> dict[str, Any]:
        order, last = self._orders.current(model_id), self._orders.last(model_id)
        return {
            "order": order and {"kind": order.kind, "since": self._wall_s(order.began_s)},
            "last_order": last
            and {
                "kind": last.kind,
                "took_s": _rounded(last.took_s),
                "error": last.error and last.error.message,
            },
        }

    def _wall_s(self, monotonic_s: float) -> float:
        """Unix time of a moment of this process's."""
        return self._clock.wall_s() - (self._clock.monotonic_s() - monotonic_s)


@dataclass(frozen=True, slots=True)
class Look:
    """A model's engines by name, each with what it said of itself."""

    engines: Mapping[str, tuple[Backend, Reading | None]]

    @property
    def reading(self) -> Reading | None:
        """Of those together that said something."""
        said = [found for _, found in self.engines.values() if found is not None]
        return combined(said) if said else None

    @property
    def processes(self) -> tuple[tuple[str, int], ...]:
        """Which processes said something."""
        return tuple(
            (name, each.status.generation)
            for name, (each, found) in self.engines.items()
            if found is not None
        )


def members_of(one: Served) -> Mapping[str, Backend]:
    """The engines that answer for a model, by name."""
    return one.backend.members if isinstance(one.backend, Replicas) else {one.id: one.backend}


def figures(reading: Reading | None) -> dict[str, Any]:
    """What engines count, `null` where they do not say."""
    return {
        "running": reading.running if reading is not None else None,
        "waiting": reading.waiting if reading is not None else None,
        "cache_hit_ratio": _rounded(reading.cache_hit_ratio if reading is not None else None),
        "kv_use": _rounded(reading.kv_use if reading is not None else None),
    }


async def reading_of(client: EngineClient | None) -> Reading | None:
    """What a ready engine says of itself; None where there is none, or it says nothing in time."""
    if client is None:
        return None
    try:
        status, page = await client.get("/metrics", LOOK_TIMEOUT_S)
    except (EngineError, TimeoutError):
        return None
    return read(page.decode(errors="replace")) if status == 200 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
