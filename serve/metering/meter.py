"""One record for every request on every exit path: metrics, a line in the log, a receipt in the
audit log, the ledger."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from serve import log
from serve.core.call import Call, Timeline
from serve.core.clock import Clock
from serve.core.errors import StorageUnavailable
from serve.core.ledger import Closed, Ledger, NoLedger, Opened
from serve.metering.metrics import Metrics


class Receipts(Protocol):
    """Who writes a receipt of each request."""

    def claim(self, tenant: str) -> int | None:
        """Keep room for one; the tenant's erasures so far, where it wants its text kept.

        Raises StorageUnavailable.
        """

    def unclaim(self) -> None:
        """It does not come."""

    def write(self, call: Call, timeline: Timeline, then: Callable[[], None]) -> None:
        """The request has ended; `then` is called once its receipt is written."""


@dataclass(slots=True)
class _Series:
    """The series of one model, their labels resolved once instead of at each request."""

    in_flight: Any
    ttft: Any
    tpot: Any
    e2e: Any
    queue: Any
    prompt: Any
    cached: Any
    completion: Any
    reasoning: Any


class Meter:
    """Opens a timeline when a request is admitted and settles it once, when it ends."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        ledger: Ledger | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._ledger = ledger or NoLedger()
        self._receipts = receipts
        self._series: dict[str, _Series] = {}
        self._waits: dict[tuple[str, str], Any] = {}
        self._outcomes: dict[tuple[str, str, str], Any] = {}

    def open(self, call: Call, body_bytes: int = 0) -> Timeline:
        """The request is admitted. Raises StorageUnavailable where it cannot be accounted for."""
        now_s = self._clock.monotonic_s()
        received_s = self._clock.wall_s() - (now_s - call.received_s)
        opened = Opened(
            call.request_id, call.principal.tenant, call.principal.key, call.endpoint,
            call.model_id, call.tier, received_s,
        )  # fmt: skip
        text_begun = None
        if self._receipts is not None:
            text_begun = self._receipts.claim(call.principal.tenant)
        try:
            reservation = self._ledger.reserve(opened)
        except StorageUnavailable:
            if self._receipts is not None:
                self._receipts.unclaim()
            raise
        self._of(call.model_id).in_flight.inc()
        return Timeline(
            call.model_id, call.received_s, admitted_s=now_s, reservation=reservation,
            body_bytes=body_bytes, text_begun=text_begun,
        )  # fmt: skip

    def turn(self, timeline: Timeline, kind: str, *, waited: bool) -> None:
        """A request of this class may run now, at once or after it has `waited`."""
        wait_s = 0.0
        if waited:
            now_s = self._clock.monotonic_s()
            wait_s, timeline.admitted_s = now_s - timeline.admitted_s, now_s
        key = (timeline.model_id, kind)
        waits = self._waits.get(key)
        if waits is None:
            waits = self._waits[key] = self._metrics.queue_wait.labels(*key)
        waits.observe(wait_s)

    def tokens(self, timeline: Timeline) -> None:
        """Output has just arrived."""
        now_s = self._clock.monotonic_s()
        if timeline.first_token_s is None:
            timeline.first_token_s = now_s
        timeline.last_token_s = now_s

    def settle(self, call: Call, timeline: Timeline) -> None:
        """The request has ended, `timeline.outcome` says how."""
        now_s = timeline.ended_s = self._clock.monotonic_s()
        self._of(call.model_id).in_flight.dec()
        series = self._of(timeline.model_id)
        usage = timeline.usage
        self._ended(timeline.model_id, call.endpoint, timeline.outcome)
        queue_s = timeline.admitted_s - timeline.received_s
        series.queue.observe(queue_s)
        e2e_s = now_s - timeline.received_s
        series.e2e.observe(e2e_s)
        series.prompt.inc(usage.prompt)
        series.completion.inc(usage.completion)
        if usage.cached:
            series.cached.inc(usage.cached)
        if usage.reasoning:
            series.reasoning.inc(usage.reasoning)
        ttft_s = tpot_s = None
        if timeline.first_token_s is not None and timeline.last_token_s is not None:
            ttft_s = timeline.first_token_s - timeline.received_s
            series.ttft.observe(ttft_s)
            if usage.completion > 1 and call.choices == 1:
                tpot_s = (timeline.last_token_s - timeline.first_token_s) / (usage.completion - 1)
                series.tpot.observe(tpot_s)
        closed = Closed(
            timeline.outcome, timeline.model_id, timeline.fingerprint, timeline.finish, usage,
            queue_s, ttft_s, e2e_s,
        )  # fmt: skip
        if self._receipts is None:
            timeline.reservation.settle(closed)
        else:
            self._receipts.write(call, timeline, partial(timeline.reservation.settle, closed))
        log.info("inhouse.request", "request", _line(call, timeline, e2e_s, ttft_s, tpot_s))

    def refused(self, endpoint: str, outcome: str, model_id: str = "") -> None:
        """A request that ended before it was admitted."""
        self._ended(model_id, endpoint, outcome)

    def _ended(self, model_id: str, endpoint: str, outcome: str) -> None:
        key = (model_id, endpoint, outcome)
        counter = self._outcomes.get(key)
        if counter is None:
            counter = self._outcomes[key] = self._metrics.requests.labels(*key)
        counter.inc()

    def _of(self, model_id: str) -> _Series:
        series = self._series.get(model_id)
        if series is None:
            m = self._metrics
            series = self._series[model_id] = _Series(
                in_flight=m.in_flight.labels(model_id),
                ttft=m.ttft.labels(model_id),
                tpot=m.tpot.labels(model_id),
                e2e=m.e2e.labels(model_id),
                queue=m.queue.labels(model_id),
                prompt=m.tokens.labels(model_id, "prompt"),
                cached=m.tokens.labels(model_id, "cached"),
                completion=m.tokens.labels(model_id, "completion"),
                reasoning=m.tokens.labels(model_id, "reasoning"),
            )
        return series


def _line(
    call: Call, timeline: Timeline, e2e_s: float, ttft_s: float | None, tpot_s: float | None
) -> dict[str, Any]:
    usage = timeline.usage
    return {
        "request_id": call.request_id,
        "endpoint": call.endpoint,
        "model": timeline.model_id,
        "tenant": call.principal.tenant,
        "key": call.principal.key,
        "outcome": timeline.outcome,
        "e2e_ms": round(e2e_s * 1000, 2),
        "ttft_ms": None if ttft_s is None else round(ttft_s * 1000, 2),
        "tpot_ms": None if tpot_s is None else round(tpot_s * 1000, 2),
        "tokens_in": usage.prompt,
        "tokens_cached": usage.cached,
        "tokens_out": usage.completion,
    }
