"""What engines are found to take, instead of what they were taken to need."""

import asyncio
from collections.abc import Callable

from serve.engines.memory import HOST, Amounts, Footprint, Need
from serve.engines.records import Record, Records
from serve.engines.resident import Resident
from serve.engines.states import State

Gauge = Callable[[int, bool], Amounts]
"""(leader of the session, whether to ask the driver) → what it holds; called in a thread."""


class Measurement:
    """Measures resident engines and remembers it for their next lives.

    Without `records` or a `gauge` (engines that stand for others) estimates are all there is.
    """

    def __init__(self, records: Records | None, gauge: Gauge | None) -> None:
        self._records = records
        self._gauge = gauge

    @property
    def possible(self) -> bool:
        return self._gauge is not None

    def foresee(self, footprint: Footprint) -> tuple[Need, float | None]:
        """What an engine is expected to take, and its load in seconds, as found in earlier lives;
        else by estimate, and None."""
        if (known := self._known(footprint)) is not None:
            return known.need(footprint), known.load_s or None
        return footprint.estimate, None

    def recall(self, one: Resident) -> None:
        """Plan it with what was found in an earlier life."""
        if self._known(one.footprint) is not None:
            one.need, one.load_s = self.foresee(one.footprint)
            one.measured = True

    async def take(self, one: Resident, *, asleep: bool) -> bool:
        """Measure an engine that answers, or sleeps; False where there is nothing to go by."""
        key = one.footprint.record_key
        state = State.SLEEPING if asleep else State.READY
        status = one.supervisor.status
        if self._gauge is None or self._records is None or key is None:
            return False
        if status.pid is None or status.state is not state:
            return False
        found = await asyncio.to_thread(self._gauge, status.pid, one.footprint.on_devices)
        now = one.supervisor.status
        if (now.pid, now.state, now.turning) != (status.pid, state, False) or not found.get(HOST):
            return False
        amounts = {"asleep": found} if asleep else {"awake": found}
        record = Record(**amounts, kv_bytes=one.footprint.kv_bytes, load_s=one.load_s or 0.0)
        known = await asyncio.to_thread(self._records.put, key, record)
        one.need = known.need(one.footprint)
        one.measured = True
        return True

    def _known(self, footprint: Footprint) -> Record | None:
        if self._records is None or footprint.record_key is None:
            return None
        return self._records.get(footprint.record_key)
